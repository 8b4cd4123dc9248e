import { setLink } from '../../netlink/link.ts';
import { isOurNetns } from '../driver/namespaces.ts';
import { routeStep } from '../driver/steps.ts';
import type { Observer } from '../observe/observer.ts';
import { ERRNO_CODES } from './failure-codes.ts';
import type { LinuxKind, OpOf } from './kind.ts';
import { LINK_EVENTS } from './links.ts';

const LOOPBACK = { index: 1 };

const observeNetns: Observer = async ({ view, netns }) => (isOurNetns(netns) ? [await view.netnsOf(netns)] : []);

/** A named namespace, pinned as a file like those of `ip netns add`. */
export const netnsKind: LinuxKind<'netns'> = {
  steps({ verb, object }: OpOf<'netns'>) {
    const { netns, loopbackUp } = object;
    if (verb === 'delete') return [{ backend: 'namespace', netns, act: 'remove' }];
    const loopback = routeStep(netns, () => setLink(LOOPBACK, { up: loopbackUp }));
    if (verb === 'change') return [loopback];
    const create = { backend: 'namespace', netns, act: 'create' } as const;
    return loopbackUp ? [create, loopback] : [create];
  },
  observer: observeNetns,
  events: LINK_EVENTS,
  audit: 'notified',
  related: ['link', 'network'],
  failures: ERRNO_CODES,
  rules: { livesIn: () => [] },
};
