import { deleteService, IP_VS_SVC_F_PERSISTENT, newService, schedulerBits, setService } from '../../netlink/ipvs.ts';
import { sharedSteps } from '../driver/steps.ts';
import { NETLINK_GENERIC } from '../driver/transport.ts';
import { ipvsKey } from '../ipvs/ipvs.ts';
import { observeServices } from '../ipvs/observe-services.ts';
import { ERRNO_CODES, tryModprobe } from './failure-codes.ts';
import { netnsNames, serviceName } from './kernel-rules.ts';
import { type LinuxKind, objectOf } from './kind.ts';

const stepsIn = sharedSteps(NETLINK_GENERIC, ({ ipvsFamilyId }, op) => {
  const service = objectOf('virtual-service', op);
  const { scheduler, flags = [], persistence } = service;
  const key = ipvsKey(service);
  if (op.verb === 'delete') return deleteService(ipvsFamilyId, key);
  const put = op.verb === 'create' ? newService : setService;
  return put(ipvsFamilyId, key, {
    scheduler,
    flags: schedulerBits(flags) | (persistence === undefined ? 0 : IP_VS_SVC_F_PERSISTENT),
    timeout: persistence?.timeout,
    persistencePrefix: persistence?.prefix,
  });
});

/** A service of IPVS. */
export const virtualServiceKind: LinuxKind<'virtual-service'> = {
  steps: ({ object }) => stepsIn(object.netns),
  observer: observeServices,
  audit: 'silent',
  related: [],
  failures: ERRNO_CODES,
  remedy({ verb, object: { scheduler } }, code) {
    if (code !== 'ENOENT' || verb === 'delete') return undefined;
    return `this kernel has no scheduler ${scheduler}: ${tryModprobe(`ip_vs_${scheduler}`)}`;
  },
  rules: { names: (service) => [serviceName(service)], livesIn: ({ netns }) => netnsNames(netns) },
};
