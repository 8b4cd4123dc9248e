import { type FastPathFilter, referencedLinks } from '../../model/kinds/fast-path.ts';
import { FAST_PATH_PREFERENCE, HOST_LINKS, HOST_NETNS } from '../../model/linux-names.ts';
import { RTM_DELQDISC, RTM_DELTFILTER, RTM_NEWTFILTER, RTNLGRP } from '../../netlink/rtnetlink.ts';
import { decodeFilter, decodeQdisc, isIngress } from '../../netlink/traffic-control.ts';
import { ERRNO_CODES, tryModprobe } from './failure-codes.ts';
import { fastPathSteps, observeFastPath } from './fast-path-common.ts';
import { linkName, netnsNames } from './kernel-rules.ts';
import type { KernelEvent, LinuxKind } from './kind.ts';

const CHANGED: readonly KernelEvent[] = [{ of: 'kind', kind: 'fast-path' }];

/** A tc filter with one of our programs. */
export const fastPathKind: LinuxKind<'fast-path'> = {
  steps: fastPathSteps,
  observer: observeFastPath,
  events: {
    source: 'rtnetlink',
    groups: [RTNLGRP.trafficControl],
    inHost: true,
    types: [RTM_NEWTFILTER, RTM_DELTFILTER, RTM_DELQDISC],
    complete: true,
    decode(_netns, message) {
      if (message.type === RTM_DELQDISC) {
        const qdisc = decodeQdisc(message);
        return qdisc.ok && isIngress(qdisc.value) ? CHANGED : [];
      }
      const filter = decodeFilter(message);
      // When all filters of a link are removed at once, the event names none.
      return filter.ok && [0, FAST_PATH_PREFERENCE].includes(filter.value.preference) ? CHANGED : [];
    },
  },
  audit: 'costly',
  related: ['link', 'network'],
  failures: ERRNO_CODES,
  remedy({ verb, object: { link, egress } }, code) {
    if (code === 'EEXIST') {
      return `another program has a filter at this place: see \`tc filter show dev ${link} ${egress ? 'egress' : 'ingress'} pref ${FAST_PATH_PREFERENCE}\``;
    }
    return code === 'ENOENT' && verb !== 'delete' ? tryModprobe('sch_ingress', 'cls_bpf') : undefined;
  },
  rules: {
    livesIn: ({ netns, link }) =>
      isOurLink(netns, link) ? [...netnsNames(netns), linkName(netns, link)] : netnsNames(netns),
    indexes: ({ netns, program }) =>
      program === undefined ? [] : referencedLinks(program).map((name) => linkName(netns, name)),
    withoutIndex: ({ program: _, ...filter }: FastPathFilter) => ({ ...filter, foreign: ['another program'] }),
  },
};

/** The host's underlay link is no object of ours. */
function isOurLink(netns: string, link: string): boolean {
  return netns !== HOST_NETNS || HOST_LINKS.includes(link);
}
