import { deleteDestination, newDestination, setDestination } from '../../netlink/ipvs-destination.ts';
import { sharedSteps } from '../driver/steps.ts';
import { NETLINK_GENERIC } from '../driver/transport.ts';
import { ipvsKey } from '../ipvs/ipvs.ts';
import { observeServices } from '../ipvs/observe-services.ts';
import { ERRNO_CODES } from './failure-codes.ts';
import { netnsNames, serviceName } from './kernel-rules.ts';
import { type LinuxKind, objectOf } from './kind.ts';

const stepsIn = sharedSteps(NETLINK_GENERIC, ({ ipvsFamilyId }, op) => {
  const server = objectOf('real-server', op);
  const key = ipvsKey(server);
  if (op.verb === 'delete') return deleteDestination(ipvsFamilyId, key, server);
  const put = op.verb === 'create' ? newDestination : setDestination;
  return put(ipvsFamilyId, key, server, { weight: server.weight, forwarding: 'masquerade' });
});

/** A real server of an IPVS service. */
export const realServerKind: LinuxKind<'real-server'> = {
  steps: ({ object }) => stepsIn(object.netns),
  observer: observeServices,
  audit: 'silent',
  related: [],
  failures: ERRNO_CODES,
  rules: { livesIn: (server) => [...netnsNames(server.netns), serviceName(server)] },
};
