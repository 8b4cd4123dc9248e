import { type BpfHandle, loadBpfProgram } from '../../native/index.ts';
import { MeshError } from '../base/errors.ts';
import { type Program, withMaps } from '../bpf/assembler.ts';
import { tags } from '../bpf/tag.ts';
import type { KernelObject, Op, Shortcut, ShortcutPeer, ShortcutPort, ShortcutTask } from '../model/kernel-state.ts';
import { HOST_LINKS, HOST_NETNS, INGRESS_NETWORK, networkNetns, SHORTCUT_PREFERENCE } from '../model/names.ts';
import { deleteBpfFilter, deleteClsact, type Filter, newBpfFilter, newClsact } from '../netlink/traffic-control.ts';
import { type Failure, failureFrom, noSuchLink } from './failure.ts';
import { filtersIn, filtersOn, isUsed, nameLinks, numberLinks } from './filters.ts';
import { isTaskNetns, type Namespaces } from './namespaces.ts';
import type { LinkView } from './observe-links.ts';
import { openShortcutMaps } from './shortcut-maps.ts';
import { filterName, HANDLE, linksIn, programOf, runs } from './shortcut-programs.ts';
import { type Meter, NETLINK_ROUTE, type Transport } from './transport.ts';

/** The tc programs of src/bpf and the maps they share: attached, seen and told apart from what is not ours. */
export interface Shortcuts {
  /** What of ours is attached to links of a netns. */
  attached(netns: string, wanted: readonly KernelObject[]): Promise<Shortcut[]>;
  /** What the maps say of it: the ports are the host's, the tasks those of the ingress network's router. */
  entries(netns: string, view: LinkView): Promise<ShortcutEntry[]>;
  /** One after the other; what went wrong, by place. */
  apply(ops: readonly ShortcutOp[], meter: Meter): Promise<(Failure | undefined)[]>;
  close(): void;
}

/** What a map of the programs holds. */
type ShortcutEntry = ShortcutTask | ShortcutPort | ShortcutPeer;

/** A step about one of these objects. */
export interface ShortcutOp {
  verb: Op['verb'];
  object: Shortcut | ShortcutEntry;
}

/** Where the tasks are that have a shortcut. */
const TASKS_NETNS = networkNetns(INGRESS_NETWORK);
/** What stands for a link that went away. */
const UNKNOWN = 'unknown';

/** Holds no map before it is asked. */
export function openShortcuts(transport: Transport, namespaces: Namespaces): Shortcuts {
  const maps = openShortcutMaps();
  /** The newest program of each name: those of a node's tasks are all the same. */
  const loaded = new Map<string, { tag: string; handle: BpfHandle }>();
  /** Links, as `netns identity, number`, where the qdisc is of our making. */
  const qdiscs = new Set<string>();
  let adopted = false;

  /** Before a map is made: those of programs that are attached anywhere are the node's. */
  async function adoptAll(): Promise<void> {
    if (adopted) return;
    for (const netns of [HOST_NETNS, ...namespaces.list().filter((name) => !isTaskNetns(name))]) {
      for (const { bpf } of await filtersIn(transport, netns)) if (bpf?.id !== undefined) maps.adopt(bpf.id);
    }
    adopted = true;
  }

  function load(program: Program): BpfHandle {
    const [tag = ''] = tags(program);
    const known = loaded.get(program.name);
    if (known?.tag === tag) return known.handle;
    const handle = loadProgram(program, (map) => maps.descriptor(map));
    known?.handle.close();
    loaded.set(program.name, { tag, handle });
    return handle;
  }

  async function attach(
    { netns, link, program }: Shortcut,
    verb: Op['verb'],
    meter: Meter,
  ): Promise<Failure | undefined> {
    await adoptAll();
    const numbers = await numberLinks(transport, netns, [link, ...linksIn(program)]);
    const index = numberIn(netns, numbers, link);
    const { fd } = load(programOf(program, (name) => numberIn(netns, numbers, name)));
    const filter = { index, preference: SHORTCUT_PREFERENCE, handle: HANDLE, fd, name: filterName(program) };
    const mode = verb === 'create' ? 'create' : 'ensure';
    const requests = [newClsact(index), newBpfFilter(filter, mode)];
    const [qdisc, added] = await transport.transact(netns, NETLINK_ROUTE, requests, meter);
    if (qdisc?.ok) qdiscs.add(placeOf(netns, index));
    else if (qdisc?.code !== 'EEXIST') return qdisc;
    // Our filter was gone, so its qdisc may have been made anew by somebody else: rather leave one of ours behind.
    else if (verb === 'create') qdiscs.delete(placeOf(netns, index));
    if (!added?.ok) return added;
    if (verb === 'create') return undefined;
    const others = (await filtersOn(transport, netns, index)).filter(({ handle }) => handle !== HANDLE);
    return detach(netns, index, others, meter);
  }

  async function detach(
    netns: string,
    index: number,
    filters: readonly Filter[],
    meter: Meter,
  ): Promise<Failure | undefined> {
    const requests = filters.map(({ handle }) => deleteBpfFilter({ index, preference: SHORTCUT_PREFERENCE, handle }));
    const outcomes = await transport.transact(netns, NETLINK_ROUTE, requests, meter);
    return outcomes.find((outcome) => !outcome.ok) as Failure | undefined;
  }

  async function remove({ netns, link }: Shortcut, meter: Meter): Promise<Failure | undefined> {
    const index = numberIn(netns, await numberLinks(transport, netns, [link]), link);
    const filters = await filtersOn(transport, netns, index);
    if (filters.length === 0) return { ok: false, code: 'ENOENT', text: `${link} has no filter of meshd` };
    const failure = await detach(netns, index, filters, meter);
    if (failure !== undefined) return failure;
    // On links of ours whatever is there is ours too, unless somebody has put a filter on it.
    const own = netns !== HOST_NETNS || HOST_LINKS.includes(link) || qdiscs.has(placeOf(netns, index));
    if (!own || (await isUsed(transport, netns, index))) return undefined;
    qdiscs.delete(placeOf(netns, index));
    const [outcome] = await transport.transact(netns, NETLINK_ROUTE, [deleteClsact(index)], meter);
    return outcome?.ok ? undefined : outcome;
  }

  async function write(verb: Op['verb'], object: ShortcutEntry): Promise<Failure | undefined> {
    await adoptAll();
    if (object.kind === 'shortcut-port') {
      if (verb === 'delete') maps.deletePort(object.mark);
      else maps.setPort(object.mark);
      return undefined;
    }
    if (object.kind === 'shortcut-peer') {
      if (verb === 'delete') maps.deletePeer(object.address);
      else maps.setPeer(object.address);
      return undefined;
    }
    const { netns, address, link } = object;
    if (verb === 'delete') {
      return maps.deleteTask(address) ? undefined : { ok: false, code: 'ENOENT', text: `${address} has no entry` };
    }
    maps.setTask(address, numberIn(netns, await numberLinks(transport, netns, [link]), link));
    return undefined;
  }

  function placeOf(netns: string, index: number): string {
    return `${netns} ${namespaces.identity(netns)} ${index}`;
  }

  return {
    async attached(netns, wanted) {
      const filters = await filtersIn(transport, netns);
      if (filters.length === 0) return [];
      for (const { bpf } of filters) if (bpf?.id !== undefined) maps.adopt(bpf.id);
      const shortcuts = wanted.filter((object): object is Shortcut => object.kind === 'shortcut');
      const numbers = await numberLinks(
        transport,
        netns,
        shortcuts.flatMap(({ link, program }) => [link, ...linksIn(program)]),
      );
      const names = await nameLinks(transport, netns, numbers, new Set(filters.map(({ index }) => index)));
      return [...names].map(([index, link]) => {
        const here = filters.filter((filter) => filter.index === index);
        const program = shortcuts.find((shortcut) => shortcut.link === link)?.program;
        const asWanted =
          program !== undefined &&
          here.length === 1 &&
          here.every(
            (filter) => runs(filter, program, (name) => numbers.get(name)) && maps.isOurs(filter.bpf?.id ?? 0),
          );
        return { kind: 'shortcut', netns, link, program: asWanted ? program : { type: 'foreign' } };
      });
    },
    async entries(netns, view) {
      const found: ShortcutEntry[] = [];
      if (netns === HOST_NETNS) {
        for (const mark of maps.ports()) found.push({ kind: 'shortcut-port', netns, mark });
        for (const address of maps.peers()) found.push({ kind: 'shortcut-peer', netns, address });
      }
      if (netns !== TASKS_NETNS) return found;
      const links = new Map((await view.linksOf(netns)).map(({ index, name }) => [index, name]));
      for (const { address, index } of maps.tasks()) {
        found.push({ kind: 'shortcut-task', netns, address, link: links.get(index) ?? UNKNOWN });
      }
      return found;
    },
    async apply(ops, meter) {
      const failures: (Failure | undefined)[] = [];
      for (const { verb, object } of ops) {
        try {
          if (object.kind !== 'shortcut') failures.push(await write(verb, object));
          else if (verb === 'delete') failures.push(await remove(object, meter));
          else failures.push(await attach(object, verb, meter));
        } catch (thrown) {
          failures.push(failureFrom(thrown));
        }
      }
      return failures;
    },
    close() {
      for (const { handle } of loaded.values()) handle.close();
      loaded.clear();
      maps.close();
    },
  };
}

/** Loads a program with its maps; when the verifier refuses it, with the verifier's words. */
export function loadProgram(program: Program, descriptor: Parameters<typeof withMaps>[1]): BpfHandle {
  const code = withMaps(program, descriptor);
  try {
    return loadBpfProgram(program.name, code);
  } catch (thrown) {
    const { code: error, log } = thrown as NodeJS.ErrnoException & { log?: string };
    if (log === undefined) throw thrown;
    const words = log.trim().split('\n').slice(-6).join('\n');
    const said = words === '' ? '' : `; the verifier says:\n${words}`;
    throw new MeshError('kernel', `the kernel does not take the program ${program.name}: ${error}${said}`, {
      cause: thrown,
    });
  }
}

function numberIn(netns: string, numbers: ReadonlyMap<string, number>, link: string): number {
  const index = numbers.get(link);
  if (index === undefined) throw noSuchLink(netns, link);
  return index;
}
