import { decodeConfig, getConfig, setConfig } from '../../netlink/ipvs.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { sharedSteps } from '../driver/steps.ts';
import { NETLINK_GENERIC } from '../driver/transport.ts';
import type { Observer } from '../observe/observer.ts';
import { ERRNO_CODES } from './failure-codes.ts';
import { netnsNames } from './kernel-rules.ts';
import { type LinuxKind, objectOf } from './kind.ts';

/** Every netns has timeouts, so they are ours only where the desired state has some. */
const observeTimeouts: Observer = async ({ transport, ipvs, netns, desiredHere }) => {
  if (!desiredHere.some(({ kind }) => kind === 'ipvs-timeouts')) return [];
  const genl = await ipvs.find();
  if (genl === undefined) return [];
  const [outcome] = await transport.transact(netns, NETLINK_GENERIC, [getConfig(genl)]);
  const [config] = outcome?.ok ? decodeAll(outcome.replies, decodeConfig) : [];
  return config === undefined ? [] : [{ kind: 'ipvs-timeouts', netns, ...config }];
};

const stepsIn = sharedSteps(NETLINK_GENERIC, ({ ipvsFamilyId }, op) =>
  setConfig(ipvsFamilyId, objectOf('ipvs-timeouts', op)),
);

/** Idle times of IPVS connections in a netns. */
export const ipvsTimeoutsKind: LinuxKind<'ipvs-timeouts'> = {
  steps: ({ verb, object }) => (verb === 'delete' ? [] : stepsIn(object.netns)),
  observer: observeTimeouts,
  audit: 'silent',
  related: [],
  failures: ERRNO_CODES,
  rules: { setting: true, livesIn: ({ netns }) => netnsNames(netns) },
};
