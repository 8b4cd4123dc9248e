import { messageOf } from '../../base/errors.ts';
import { FIRST_VNI } from '../../model/identifiers.ts';
import { type FastPathProgram, isForOutgoing } from '../../model/kinds/fast-path.ts';
import { FAST_PATH_PREFERENCE } from '../../model/linux-names.ts';
import { LITTLE_ENDIAN } from '../../netlink/attributes.ts';
import { newLink } from '../../netlink/link.ts';
import type { NetlinkRequest } from '../../netlink/message.ts';
import { newBpfFilter, newClsact } from '../../netlink/traffic-control.ts';
import { openScratchNetns, SCRATCH_NETNS } from '../driver/scratch-netns.ts';
import { NETLINK_ROUTE, openTransport, type Transport } from '../driver/transport.ts';
import { openFastPathMaps } from './fast-path-maps.ts';
import { loadProgram } from './fast-path-objects.ts';
import { FILTER_HANDLE, filterName, matchesProgram } from './fast-path-programs.ts';
import { listLinkFilters, parentOf, resolveLinkIndexes } from './tc-filters.ts';

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
    const programs: FastPathProgram[] = [
      { type: 'host-in', address, lb: PROBE_LINK, router: PROBE_LINK, vni: FIRST_VNI, number: 1 },
      { type: 'host-sent', address, lb: PROBE_LINK },
      { type: 'host-out', address },
      { type: 'router-in' },
      { type: 'task-out', vxlan: PROBE_LINK, lb: PROBE_LINK, number: 1 },
    ];
    for (const program of programs) {
      const loaded = loadProgram(program, () => index, maps.mapsFor(program.type));
      const parent = parentOf(isForOutgoing(program));
      const filter = { index, parent, preference: FAST_PATH_PREFERENCE, handle: FILTER_HANDLE, fd: loaded.fd };
      const noFilter = await tryRequest(transport, newBpfFilter({ ...filter, name: filterName(program) }, 'ensure'));
      loaded.close();
      if (noFilter) return `tc does not support BPF programs: ${noFilter}; try \`modprobe cls_bpf\``;
      const [found] = await listLinkFilters(transport, SCRATCH_NETNS, index, parent);
      const constants = maps.constantsOf(found?.bpf?.id ?? 0);
      // After a restart meshd would not recognize its own programs, and would attach them again and again.
      if (found === undefined || !matchesProgram(found, constants, program, () => index))
        return `the kernel does not show the constants of the program ${program.type}`;
    }
    return undefined;
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
