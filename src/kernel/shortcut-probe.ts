import { messageOf } from '../base/errors.ts';
import { hostIn } from '../bpf/host-in.ts';
import { hostOut } from '../bpf/host-out.ts';
import { routerIn } from '../bpf/router-in.ts';
import { tags } from '../bpf/tag.ts';
import { taskOut } from '../bpf/task-out.ts';
import { FIRST_VNI, SHORTCUT_PREFERENCE, SHORTCUT_PREFIX } from '../model/names.ts';
import { LITTLE_ENDIAN } from '../netlink/attributes.ts';
import { newLink } from '../netlink/link.ts';
import type { NetlinkRequest } from '../netlink/message.ts';
import { newBpfFilter, newClsact } from '../netlink/traffic-control.ts';
import { filtersOn, numberLinks } from './filters.ts';
import { openScratch, SCRATCH } from './scratch.ts';
import { openShortcutMaps } from './shortcut-maps.ts';
import { HANDLE } from './shortcut-programs.ts';
import { loadProgram } from './shortcuts.ts';
import { NETLINK_ROUTE, openTransport, type Transport } from './transport.ts';

const LINK = 'v0';

/**
 * Whether this kernel can do the shortcut, tried out in a nameless netns that ends with the look; the reason is for
 * people, also when it can. Never throws: without the shortcut meshd works as well.
 */
export async function probeShortcut(): Promise<{ possible: boolean; reason: string }> {
  try {
    const problem = LITTLE_ENDIAN ? await tryOut() : 'its programs are made for little-endian machines only';
    return problem === undefined
      ? { possible: true, reason: 'the kernel takes all programs of the shortcut' }
      : { possible: false, reason: problem };
  } catch (thrown) {
    return { possible: false, reason: messageOf(thrown) };
  }
}

async function tryOut(): Promise<string | undefined> {
  const scratch = await openScratch();
  const transport = openTransport(scratch.namespaces, { sends: 0, messages: 0, bytes: 0 });
  const maps = openShortcutMaps();
  try {
    const pair = newLink({ name: LINK, config: { kind: 'veth', peer: { name: 'v1' } } });
    const noPair = await refusal(transport, pair);
    if (noPair) return `a veth pair cannot be made: ${noPair}`;
    const index = (await numberLinks(transport, SCRATCH, [LINK])).get(LINK) ?? 0;
    const noQdisc = await refusal(transport, newClsact(index));
    if (noQdisc) return `tc has no clsact here: ${noQdisc}; try \`modprobe sch_ingress\``;
    const address = '192.0.2.1';
    const programs = [
      hostIn({ address, lb: index, router: index, vni: FIRST_VNI, number: 1 }),
      hostOut({ address }),
      routerIn(),
      taskOut({ vxlan: index, lb: index, number: 1 }),
    ];
    for (const [place, program] of programs.entries()) {
      const handle = loadProgram(program, (map) => maps.descriptor(map));
      const filter = { index, preference: SHORTCUT_PREFERENCE, handle: HANDLE + place, fd: handle.fd };
      const noFilter = await refusal(transport, newBpfFilter({ ...filter, name: `${SHORTCUT_PREFIX}${program.name}` }));
      handle.close();
      if (noFilter) return `tc takes no BPF program: ${noFilter}; try \`modprobe cls_bpf\``;
    }
    const found = (await filtersOn(transport, SCRATCH, index)).map(({ bpf }) => bpf?.tag ?? '');
    // A meshd that starts could not tell its own programs from others, and would attach them again and again.
    const known = programs.every((program) => tags(program).some((tag) => found.includes(tag)));
    return known ? undefined : 'this kernel gives programs tags that meshd does not know';
  } finally {
    maps.close();
    transport.close();
    scratch.end();
  }
}

async function refusal(transport: Transport, request: NetlinkRequest): Promise<string | undefined> {
  const [outcome] = await transport.transact(SCRATCH, NETLINK_ROUTE, [request]);
  if (!outcome || outcome.ok) return undefined;
  return outcome.text === undefined ? outcome.code : `${outcome.code} (${outcome.text})`;
}
