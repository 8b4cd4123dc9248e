import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import { pingAddresses } from '../../kernel/host/icmp-echo.ts';
import { runPreflight } from '../../kernel/host/preflight.ts';
import { describePreflightFinding } from '../../kernel/host/preflight-findings.ts';
import type { Kernel } from '../../kernel/kernel.ts';
import type { Assignment } from '../../model/assignment.ts';
import { addressAt } from '../../model/block.ts';
import type { PortCondition } from '../../model/cluster.ts';
import type { Condition } from '../../model/condition.ts';
import { type DoctorReport, type EchoResult, type Finding, finding } from '../../model/doctor.ts';
import { BLOCK_SLOT, INGRESS_NETWORK } from '../../model/identifiers.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import { LB_NETNS } from '../../model/linux-names.ts';
import { SCHEDULERS } from '../../model/spec.ts';
import type { NodeCapabilities } from '../../plan/context.ts';
import { readDiskSpace, readFirewallFacts, readSysctlFacts, readUnderlayFacts } from './collect.ts';
import { checkFirewall } from './firewall.ts';
import { checkUnderlay } from './link.ts';
import { checkNodeState, withoutRepeatedConditions } from './node-state.ts';
import { checkRouting } from './routing.ts';
import { checkSysctls, ROUTER } from './sysctls.ts';

export interface DoctorOptions {
  kernel: Kernel;
  clock: Clock;
  capabilities(): NodeCapabilities;
  underlay: string;
  version: string;
  stateDir: string | undefined;
  assignment(): Assignment | undefined;
  /** Our objects that the kernel holds now. */
  have(): ReadonlyMap<string, KernelObject>;
  diff(): Promise<{ steps: readonly string[]; error: string }>;
  conditions(): readonly Condition[];
  portConditions(): readonly PortCondition[];
}

/** Bytes of the small probe: an ordinary ping, even over IPv6. */
const SMALL_PROBE_SIZE = 104;

/** Checks everything a node needs for the mesh and probes every other node. Calls during a run share its report. */
export function createDoctor(options: DoctorOptions): () => Promise<DoctorReport> {
  let running: Promise<DoctorReport> | undefined;
  return () => {
    running ??= runChecks(options).finally(() => {
      running = undefined;
    });
    return running;
  };
}

async function runChecks(options: DoctorOptions): Promise<DoctorReport> {
  const { kernel, clock, capabilities, underlay, version } = options;
  const now = clock.now();
  const startedAt = clock.monotonic();
  const vxlan = [...options.have().values()].find((object) => object.kind === 'vxlan' && object.netns === ROUTER);
  const overlayMtu = vxlan?.kind === 'vxlan' ? vxlan.mtu : undefined;
  const echoes = await pingPeers(options, overlayMtu).catch((thrown) => messageOf(thrown));
  const results = typeof echoes === 'string' ? [] : echoes;
  const unreachable = results.filter((one) => one.small === undefined || one.full === undefined);
  const peers = options.assignment()?.peers ?? [];
  const link = await readUnderlayFacts(
    kernel,
    underlay,
    peers.map((peer) => peer.underlay),
  );
  const findings = await Promise.all([
    runCheck('module', () => checkModules(capabilities())),
    runCheck('routing', async () => checkRouting(options.assignment(), capabilities())),
    runCheck('sysctl', async () => checkSysctls(readSysctlFacts(kernel, hasInet6(options)))),
    runCheck('underlay', async () => checkUnderlay({ ...link, ...(overlayMtu === undefined ? {} : { overlayMtu }) })),
    runCheck('firewall', async () => {
      if (unreachable.length === 0) return [];
      const filters = await readFirewallFacts(kernel, underlay);
      return checkFirewall({
        ...filters,
        underlay,
        link: link.link,
        unreachable: unreachable.map((one) => one.underlay),
      });
    }),
    runCheck('node', () => gatherNodeState(options)),
  ]);
  if (typeof echoes === 'string') {
    findings.push([finding('error', 'PeersNotProbed', { error: echoes })]);
  }
  return {
    now,
    took: clock.monotonic() - startedAt,
    version,
    findings: withoutRepeatedConditions(findings.flat()),
    echoes: results,
    ...(overlayMtu === undefined ? {} : { overlayMtu }),
  };
}

/** Whether the overlay has IPv6 on this node; if not, IPv6 need not be forwarded. */
function hasInet6({ capabilities, assignment }: DoctorOptions): boolean {
  const network = assignment()?.networks.find(({ name }) => name === INGRESS_NETWORK);
  const planned = network?.subnets.some(({ family }) => family === 'inet6') ?? false;
  return planned && capabilities().families.includes('inet6');
}

async function runCheck(subject: string, judge: () => Promise<Finding[]>): Promise<Finding[]> {
  try {
    return await judge();
  } catch (thrown) {
    return [finding('error', 'CheckFailed', { subject, error: messageOf(thrown) })];
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
  const times = await pingAddresses(
    // From mesh-lb, like the packets of every client: the other node's router answers this node's mesh-lb.
    kernel.netnsPath(LB_NETNS),
    peers.map(({ vtep }) => vtep),
    [SMALL_PROBE_SIZE, mtu],
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

/** Everything meshd requires of a kernel, tried in a netns of its own. */
async function checkModules({ schedulers }: NodeCapabilities): Promise<Finding[]> {
  const missing = await runPreflight();
  const lacking = SCHEDULERS.filter((name) => !schedulers.includes(name));
  return [
    ...(missing.length === 0
      ? [finding('ok', 'KernelFeaturesPresent', {})]
      : missing.map((found) => finding('error', 'KernelRequirementMissing', describePreflightFinding(found)))),
    ...(lacking.length === 0
      ? [finding('ok', 'SchedulersPresent', { schedulers: SCHEDULERS.join(', ') })]
      : lacking.map((scheduler) => finding('warning', 'SchedulerMissing', { scheduler }))),
  ];
}

async function gatherNodeState(options: DoctorOptions): Promise<Finding[]> {
  const { stateDir } = options;
  const [disk, { steps, error: stepsError }] = await Promise.all([
    stateDir === undefined ? undefined : readDiskSpace(stateDir),
    options.diff(),
  ]);
  const { conditions, portConditions } = options;
  return checkNodeState({
    stateDir: stateDir ?? '',
    disk,
    steps,
    stepsError,
    conditions: conditions(),
    portConditions: portConditions(),
  });
}
