import { messageOf } from '../../base/errors.ts';
import { hostIn } from '../../bpf/host-in.ts';
import { hostOut } from '../../bpf/host-out.ts';
import { routerIn } from '../../bpf/router-in.ts';
import { programTags } from '../../bpf/tag.ts';
import { taskOut } from '../../bpf/task-out.ts';
import { FIRST_VNI } from '../../model/identifiers.ts';
import { FAST_PATH_PREFERENCE, FAST_PATH_PREFIX } from '../../model/linux-names.ts';
import { LITTLE_ENDIAN } from '../../netlink/attributes.ts';
import { newLink } from '../../netlink/link.ts';
import type { NetlinkRequest } from '../../netlink/message.ts';
import { newBpfFilter, newClsact } from '../../netlink/traffic-control.ts';
import { openScratchNetns, SCRATCH_NETNS } from '../driver/scratch-netns.ts';
import { NETLINK_ROUTE, openTransport, type Transport } from '../driver/transport.ts';
import { loadProgram } from './fast-path-driver.ts';
import { openFastPathMaps } from './fast-path-maps.ts';
import { FILTER_HANDLE } from './fast-path-programs.ts';
import { listLinkFilters, resolveLinkIndexes } from './tc-filters.ts';

const PROBE_LINK = 'v0';

/**
 * Whether this kernel supports the fast path, tried in a nameless netns that is removed with the check; `reason` is for
 * the log either way. Never throws: meshd works without the fast path as well.
 */
export async function probeFastPath(): Promise<{ possible: boolean; reason: string }> {
  try {
    const problem = LITTLE_ENDIAN ? await runProbe() : 'its programs support little-endian machines only';
    return problem === undefined
      ? { possible: true, reason: 'the kernel accepts all programs of the fast path' }
      : { possible: false, reason: problem };
  } catch (thrown) {
    return { possible: false, reason: messageOf(thrown) };
  }
}

async function runProbe(): Promise<string | undefined> {
  const scratch = await openScratchNetns();
  const transport = openTransport(scratch.namespaces, { sends: 0, messages: 0, bytes: 0 });
  const maps = openFastPathMaps();
  try {
    const pair = newLink({ name: PROBE_LINK, config: { kind: 'veth', peer: { name: 'v1' } } });
    const noPair = await tryRequest(transport, pair);
    if (noPair) return `a veth pair cannot be created: ${noPair}`;
    const index = (await resolveLinkIndexes(transport, SCRATCH_NETNS, [PROBE_LINK])).get(PROBE_LINK) ?? 0;
    const noQdisc = await tryRequest(transport, newClsact(index));
    if (noQdisc) return `tc does not support clsact: ${noQdisc}; try \`modprobe sch_ingress\``;
    const address = '192.0.2.1';
    const programs = [
      hostIn({ address, lb: index, router: index, vni: FIRST_VNI, number: 1 }),
      hostOut({ address }),
      routerIn(),
      taskOut({ vxlan: index, lb: index, number: 1 }),
    ];
    for (const [place, program] of programs.entries()) {
      const handle = loadProgram(program, (map) => maps.mapFd(map));
      const filter = { index, preference: FAST_PATH_PREFERENCE, handle: FILTER_HANDLE + place, fd: handle.fd };
      const noFilter = await tryRequest(
        transport,
        newBpfFilter({ ...filter, name: `${FAST_PATH_PREFIX}${program.name}` }),
      );
      handle.close();
      if (noFilter) return `tc does not support BPF programs: ${noFilter}; try \`modprobe cls_bpf\``;
    }
    const found = (await listLinkFilters(transport, SCRATCH_NETNS, index)).map(({ bpf }) => bpf?.tag ?? '');
    // After a restart meshd would not recognize its own programs, and would attach them again and again.
    const recognized = programs.every((program) => programTags(program).some((tag) => found.includes(tag)));
    return recognized ? undefined : 'the tags of this kernel for programs are not those that meshd computes';
  } finally {
    maps.close();
    transport.close();
    scratch.end();
  }
}

async function tryRequest(transport: Transport, request: NetlinkRequest): Promise<string | undefined> {
  const [outcome] = await transport.transact(SCRATCH_NETNS, NETLINK_ROUTE, [request]);
  if (!outcome || outcome.ok) return undefined;
  return outcome.text === undefined ? outcome.code : `${outcome.code} (${outcome.text})`;
}
