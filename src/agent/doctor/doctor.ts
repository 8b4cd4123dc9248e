import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import { echo } from '../../kernel/echo.ts';
import type { Kernel } from '../../kernel/kernel.ts';
import { preflight } from '../../kernel/preflight.ts';
import type { Assignment } from '../../model/assignment.ts';
import { addressAt } from '../../model/block.ts';
import type { PortCondition } from '../../model/cluster.ts';
import { type EchoResult, error, type Finding, type NodeCheckup, ok, warning } from '../../model/doctor.ts';
import type { KernelObject } from '../../model/kernel-state.ts';
import { BLOCK_SLOT, INGRESS_NETWORK, LB_NETNS, networkNetns } from '../../model/names.ts';
import { portKey, SCHEDULERS } from '../../model/spec.ts';
import type { Facts } from '../../plan/context.ts';
import { judgeFilters } from './firewall.ts';
import { judgeUnderlay } from './link.ts';
import { measureDisk, measureFilters, measureSysctls, measureUnderlay } from './measure.ts';
import { judgePlace } from './place.ts';
import { judgeSysctls } from './sysctls.ts';

export interface DoctorOptions {
  kernel: Kernel;
  clock: Clock;
  facts: Facts;
  underlay: string;
  version: string;
  stateDir: string | undefined;
  assignment(): Assignment | undefined;
  /** What the kernel holds of ours now. */
  have(): ReadonlyMap<string, KernelObject>;
  diff(): Promise<{ steps: readonly string[]; error: string }>;
  conditions(): readonly string[];
  portConditions(): readonly PortCondition[];
}

const ROUTER = networkNetns(INGRESS_NETWORK);
/** Bytes of the small probe: an ordinary ping, even over IPv6. */
const SMALL = 104;

/** Looks at everything a node needs for the mesh, and sends to every other node. One round at a time: who asks meanwhile gets the same. */
export function createDoctor(options: DoctorOptions): () => Promise<NodeCheckup> {
  let running: Promise<NodeCheckup> | undefined;
  return () => {
    running ??= examine(options).finally(() => {
      running = undefined;
    });
    return running;
  };
}

async function examine(options: DoctorOptions): Promise<NodeCheckup> {
  const { kernel, clock, facts, underlay, version } = options;
  const now = clock.now();
  const begin = clock.monotonic();
  const vxlan = [...options.have().values()].find((object) => object.kind === 'vxlan' && object.netns === ROUTER);
  const overlayMtu = vxlan?.kind === 'vxlan' ? vxlan.mtu : undefined;
  const echoes = await pingPeers(options, overlayMtu).catch((thrown) => messageOf(thrown));
  const reached = typeof echoes === 'string' ? [] : echoes;
  const silent = reached.filter((one) => one.small === undefined || one.full === undefined);
  const link = await measureUnderlay(kernel, underlay);
  const findings = await Promise.all([
    attempt('module', () => modules(facts)),
    attempt('sysctl', async () => judgeSysctls(measureSysctls(kernel, hasInet6(options)))),
    attempt('underlay', async () => judgeUnderlay({ ...link, ...(overlayMtu === undefined ? {} : { overlayMtu }) })),
    attempt('firewall', async () => {
      if (silent.length === 0) return [];
      const filters = await measureFilters(kernel, underlay);
      return judgeFilters({ ...filters, underlay, link: link.link, silent: silent.map((one) => one.underlay) });
    }),
    attempt('place', () => place(options)),
  ]);
  if (typeof echoes === 'string') {
    findings.push([error('path', `the other nodes cannot be probed: ${echoes}`, 'meshctl diff self, on this node')]);
  }
  return {
    now,
    took: clock.monotonic() - begin,
    version,
    findings: findings.flat(),
    echoes: reached,
    ...(overlayMtu === undefined ? {} : { overlayMtu }),
  };
}

/** Whether the overlay has IPv6 on this node: without, nothing of IPv6 is forwarded and nothing has to be. */
function hasInet6({ facts, assignment }: DoctorOptions): boolean {
  const network = assignment()?.networks.find(({ name }) => name === INGRESS_NETWORK);
  const wanted = network?.subnets.some(({ family }) => family === 'inet6') ?? false;
  return wanted && facts.families.includes('inet6');
}

async function attempt(check: string, judge: () => Promise<Finding[]>): Promise<Finding[]> {
  try {
    return await judge();
  } catch (thrown) {
    return [error(check, `could not be checked: ${messageOf(thrown)}`, 'journalctl -u meshd -e on this node')];
  }
}

async function pingPeers({ kernel, assignment }: DoctorOptions, mtu: number | undefined): Promise<EchoResult[]> {
  const current = assignment();
  const network = current?.networks.find(({ name }) => name === INGRESS_NETWORK);
  const family = network?.subnets[0]?.family;
  if (current === undefined || network === undefined || mtu === undefined) return [];
  const peers = current.peers.flatMap(({ nodeId, underlay, blocks }) => {
    const own = blocks.find((block) => block.networkId === network.id && block.family === family);
    return own === undefined ? [] : [{ nodeId, underlay, vtep: addressAt(own.block, BLOCK_SLOT.vtep) }];
  });
  const times = await echo(
    // From the lb, as every client's packets: the other node's router answers this node's lb.
    kernel.netnsPath(LB_NETNS),
    peers.map(({ vtep }) => vtep),
    [SMALL, mtu],
  );
  return peers.map(({ nodeId, underlay, vtep }): EchoResult => {
    const [small, full] = times.get(vtep) ?? [];
    return {
      nodeId,
      underlay,
      ...(small === undefined ? {} : { small }),
      ...(full === undefined ? {} : { full }),
    };
  });
}

/** Everything meshd asks of a kernel, tried in a netns of its own. */
async function modules({ schedulers }: Facts): Promise<Finding[]> {
  const missing = await preflight();
  const lacking = SCHEDULERS.filter((name) => !schedulers.includes(name));
  return [
    ...(missing.length === 0
      ? [ok('module', 'the kernel has all modules, set types and iptables extensions that meshd uses')]
      : missing.map(({ message }) => {
          const [problem = message, remedy = problem] = message.split(/\. Try |: run |; on Debian and Ubuntu: /);
          return error('module', problem, remedy);
        })),
    ...(lacking.length === 0
      ? [ok('module', `the kernel has all schedulers: ${SCHEDULERS.join(', ')}`)]
      : lacking.map((name) =>
          warning(
            'module',
            `this node balances without scheduler ${name}: ports that declare it take their fallback here`,
            `modprobe ip_vs_${name} && systemctl restart meshd`,
          ),
        )),
  ];
}

async function place(options: DoctorOptions): Promise<Finding[]> {
  const { stateDir } = options;
  const [disk, { steps, error: stepsError }] = await Promise.all([
    stateDir === undefined ? undefined : measureDisk(stateDir),
    options.diff(),
  ]);
  const degraded = options.portConditions().map((one) => `${portKey(one)}: ${one.message}`);
  return judgePlace({
    stateDir: stateDir ?? '',
    disk,
    steps,
    stepsError,
    conditions: options.conditions(),
    degraded,
  });
}
