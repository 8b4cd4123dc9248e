import type { BpfHandle } from '../../../native/index.ts';
import { MeshError } from '../../base/errors.ts';
import { INGRESS_NETWORK } from '../../model/identifiers.ts';
import type { Op } from '../../model/kernel-state.ts';
import { type FastPathFilter, type FastPathProgram, referencedLinks } from '../../model/kinds/fast-path.ts';
import type { FastPathPeer, FastPathPort, FastPathTask } from '../../model/kinds/fast-path-entries.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import { FAST_PATH_PREFERENCE, HOST_LINKS, HOST_NETNS, networkNetns } from '../../model/linux-names.ts';
import { deleteBpfFilter, deleteClsact, type Filter, newBpfFilter, newClsact } from '../../netlink/traffic-control.ts';
import type { Meter } from '../driver/channel.ts';
import { type Failure, linkNotFound, toFailure } from '../driver/failure.ts';
import { isTaskNetns, type Namespaces } from '../driver/namespaces.ts';
import { NETLINK_ROUTE, type Transport } from '../driver/transport.ts';
import type { LinkView } from '../observe/observe-links.ts';
import { openFastPathMaps } from './fast-path-maps.ts';
import { loadProgram, programConstants } from './fast-path-objects.ts';
import { FILTER_HANDLE, filterName, matchesProgram } from './fast-path-programs.ts';
import {
  hasClsact,
  hasFilters,
  listFilters,
  listLinkFilters,
  parentOf,
  resolveLinkIndexes,
  resolveLinkNames,
} from './tc-filters.ts';
import { markUnusedPorts } from './unused-ports.ts';

/** Attaches, observes and removes the tc programs of native/bpf and the entries of their maps. */
export interface FastPathDriver {
  /** Our filters on links of a netns. */
  observePrograms(netns: string, desired: readonly KernelObject[]): Promise<FastPathFilter[]>;
  /** Entries of the maps: ports and nodes belong to the host, tasks to the router of the ingress network. */
  observeEntries(netns: string, view: LinkView): Promise<FastPathEntry[]>;
  /** Executes one after the other; failures by place. */
  apply(ops: readonly FastPathOp[], meter: Meter): Promise<(Failure | undefined)[]>;
  close(): void;
}

/** What a map of the programs holds. */
type FastPathEntry = FastPathTask | FastPathPort | FastPathPeer;

/** A step about one of these objects. */
export interface FastPathOp {
  verb: Op['verb'];
  object: FastPathFilter | FastPathEntry;
}

/** Router of the network whose tasks use the fast path. */
const TASKS_NETNS = networkNetns(INGRESS_NETWORK);
/** Placeholder for a link that was removed. */
export const UNKNOWN_LINK = 'unknown';

/** Opens no map before the first call. */
export function openFastPathDriver(transport: Transport, namespaces: Namespaces): FastPathDriver {
  const maps = openFastPathMaps();
  /** The newest program of each type: those of a node's tasks are all the same. */
  const loaded = new Map<FastPathProgram['type'], { constants: Buffer; handle: BpfHandle }>();
  /** Links, as `netns identity ifindex`, whose qdisc we created. */
  const qdiscs = new Set<string>();
  let adopted = false;

  /** Maps of programs that are attached already are the node's; called before a map is created. */
  async function adoptAttachedMaps(): Promise<void> {
    if (adopted) return;
    for (const netns of [HOST_NETNS, ...namespaces.list().filter((name) => !isTaskNetns(name))]) {
      for (const { bpf } of await listFilters(transport, netns)) if (bpf?.id !== undefined) maps.adopt(bpf.id);
    }
    adopted = true;
  }

  function load(program: FastPathProgram, index: (link: string) => number): BpfHandle {
    const constants = programConstants(program, index);
    const cached = loaded.get(program.type);
    if (cached?.constants.equals(constants)) return cached.handle;
    const handle = loadProgram(program, index, maps.mapsFor(program.type));
    cached?.handle.close();
    loaded.set(program.type, { constants, handle });
    return handle;
  }

  async function attach(
    { netns, link, egress, program }: FastPathFilter,
    verb: Op['verb'],
    meter: Meter,
  ): Promise<Failure | undefined> {
    if (program === undefined) throw new MeshError('internal', `the filter of ${link} has no program`);
    await adoptAttachedMaps();
    const numbers = await resolveLinkIndexes(transport, netns, [link, ...referencedLinks(program)]);
    const index = requireLinkIndex(netns, numbers, link);
    const { fd } = load(program, (name) => requireLinkIndex(netns, numbers, name));
    const parent = parentOf(egress);
    const place = { index, parent, preference: FAST_PATH_PREFERENCE, handle: FILTER_HANDLE };
    const mode = verb === 'create' ? 'create' : 'ensure';
    const [qdisc] = await transport.transact(netns, NETLINK_ROUTE, [newClsact(index)], meter);
    if (qdisc?.ok) qdiscs.add(qdiscKey(netns, index));
    else if (qdisc?.code !== 'EEXIST') return qdisc;
    // Our filters were missing, so the qdisc may be a new one of another program: it is better to leave one behind.
    else if (verb === 'create' && (await listLinkFilters(transport, netns, index, parentOf(!egress))).length === 0)
      qdiscs.delete(qdiscKey(netns, index));
    if (egress && !(await hasClsact(transport, netns, index)))
      return {
        ok: false,
        code: 'EOPNOTSUPP',
        text: `${link} has the qdisc ingress of another program, and not clsact`,
      };
    const request = newBpfFilter({ ...place, fd, name: filterName(program) }, mode);
    const [added] = await transport.transact(netns, NETLINK_ROUTE, [request], meter);
    if (!added?.ok) return added;
    // It has not seen what was sent before.
    if (program.type === 'host-sent') for (const mark of maps.ports()) maps.setPort(mark);
    if (verb === 'create') return undefined;
    const filters = await listLinkFilters(transport, netns, index, parent);
    return detach(
      netns,
      filters.filter(({ handle }) => handle !== FILTER_HANDLE),
      meter,
    );
  }

  async function detach(netns: string, filters: readonly Filter[], meter: Meter): Promise<Failure | undefined> {
    const outcomes = await transport.transact(netns, NETLINK_ROUTE, filters.map(deleteBpfFilter), meter);
    return outcomes.find((outcome) => !outcome.ok) as Failure | undefined;
  }

  async function remove({ netns, link, egress }: FastPathFilter, meter: Meter): Promise<Failure | undefined> {
    const index = requireLinkIndex(netns, await resolveLinkIndexes(transport, netns, [link]), link);
    const filters = await listLinkFilters(transport, netns, index, parentOf(egress));
    if (filters.length === 0) return { ok: false, code: 'ENOENT', text: `${link} has no filter of meshd` };
    const failure = await detach(netns, filters, meter);
    if (failure !== undefined) return failure;
    // On our links the qdisc is ours too, unless another program has put a filter on it.
    const own = netns !== HOST_NETNS || HOST_LINKS.includes(link) || qdiscs.has(qdiscKey(netns, index));
    if (!own || (await hasFilters(transport, netns, index))) return undefined;
    qdiscs.delete(qdiscKey(netns, index));
    const [outcome] = await transport.transact(netns, NETLINK_ROUTE, [deleteClsact(index)], meter);
    return outcome?.ok ? undefined : outcome;
  }

  async function applyEntry(verb: Op['verb'], object: FastPathEntry): Promise<Failure | undefined> {
    await adoptAttachedMaps();
    if (object.kind === 'fast-path-port') {
      if (verb === 'delete') maps.deletePort(object.mark);
      else maps.setPort(object.mark);
      return undefined;
    }
    if (object.kind === 'fast-path-peer') {
      if (verb === 'delete') maps.deletePeer(object.address);
      else maps.setPeer(object.address);
      return undefined;
    }
    const { netns, address, link } = object;
    if (verb === 'delete') {
      return maps.deleteTask(address) ? undefined : { ok: false, code: 'ENOENT', text: `${address} has no entry` };
    }
    maps.setTask(address, requireLinkIndex(netns, await resolveLinkIndexes(transport, netns, [link]), link));
    return undefined;
  }

  /** After ports or host-sent were added. Ports stay unknown, which is only slower, if the kernel cannot list its sockets. */
  async function findUnusedPorts(ops: readonly FastPathOp[]): Promise<void> {
    const added = ops.filter(({ verb }) => verb !== 'delete').map(({ object }) => object);
    const recordsAnew = added.some((object) => object.kind === 'fast-path' && object.program?.type === 'host-sent');
    const marks = recordsAnew
      ? maps.ports()
      : added.flatMap((object) => (object.kind === 'fast-path-port' ? [object.mark] : []));
    if (marks.length === 0) return;
    const filters = await listFilters(transport, HOST_NETNS);
    const isAttached = filters.some(({ bpf }) => bpf?.name === filterName({ type: 'host-sent' }));
    if (isAttached) await markUnusedPorts(maps, transport, marks);
  }

  function qdiscKey(netns: string, index: number): string {
    return `${netns} ${namespaces.identity(netns)} ${index}`;
  }

  return {
    async observePrograms(netns, desired) {
      const filters = await listFilters(transport, netns);
      if (filters.length === 0) return [];
      for (const { bpf } of filters) if (bpf?.id !== undefined) maps.adopt(bpf.id);
      const desiredFilters = desired.filter((object): object is FastPathFilter => object.kind === 'fast-path');
      const numbers = await resolveLinkIndexes(
        transport,
        netns,
        desiredFilters.flatMap(({ link, program }) => [
          link,
          ...(program === undefined ? [] : referencedLinks(program)),
        ]),
      );
      const names = await resolveLinkNames(transport, netns, numbers, new Set(filters.map(({ index }) => index)));
      const places = [...names].flatMap(([index, link]) => [
        { index, link, egress: false },
        { index, link, egress: true },
      ]);
      return places.flatMap(({ index, link, egress }): FastPathFilter[] => {
        const here = filters.filter((filter) => filter.index === index && filter.parent === parentOf(egress));
        if (here.length === 0) return [];
        const desiredHere = desiredFilters.find(
          (filter) => filter.link === link && (filter.egress ?? false) === egress,
        );
        const program = desiredHere?.program;
        const isDesired =
          program !== undefined &&
          here.length === 1 &&
          here.every((filter) => {
            const id = filter.bpf?.id ?? 0;
            const constants = maps.constantsOf(id);
            return matchesProgram(filter, constants, program, (name) => numbers.get(name)) && maps.usesNodeMaps(id);
          });
        const found = { kind: 'fast-path', netns, link, ...(egress ? { egress } : {}) } as const;
        return [{ ...found, ...(isDesired ? { program } : { foreign: ['another program'] }) }];
      });
    },
    async observeEntries(netns, view) {
      const found: FastPathEntry[] = [];
      if (netns === HOST_NETNS) {
        for (const mark of maps.ports()) found.push({ kind: 'fast-path-port', netns, mark });
        for (const address of maps.peers()) found.push({ kind: 'fast-path-peer', netns, address });
      }
      if (netns !== TASKS_NETNS) return found;
      const links = new Map((await view.linksOf(netns)).map(({ index, name }) => [index, name]));
      for (const { address, index } of maps.tasks()) {
        found.push({ kind: 'fast-path-task', netns, address, link: links.get(index) ?? UNKNOWN_LINK });
      }
      return found;
    },
    async apply(ops, meter) {
      const failures: (Failure | undefined)[] = [];
      for (const { verb, object } of ops) {
        try {
          if (object.kind !== 'fast-path') failures.push(await applyEntry(verb, object));
          else if (verb === 'delete') failures.push(await remove(object, meter));
          else failures.push(await attach(object, verb, meter));
        } catch (thrown) {
          failures.push(toFailure(thrown));
        }
      }
      await findUnusedPorts(ops).catch(() => undefined);
      return failures;
    },
    close() {
      for (const { handle } of loaded.values()) handle.close();
      loaded.clear();
      maps.close();
    },
  };
}

function requireLinkIndex(netns: string, numbers: ReadonlyMap<string, number>, link: string): number {
  const index = numbers.get(link);
  if (index === undefined) throw linkNotFound(netns, link);
  return index;
}
