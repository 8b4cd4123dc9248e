import type { FigureKey } from './results.ts';

/** Published figures of kube-proxy, from other machines and times: listed beside ours, never compared in a ratio. */
export interface Published {
  mode: 'iptables' | 'ipvs' | 'nftables';
  what: string;
  figure: string;
  /** The most similar figure measured here. */
  ours: readonly FigureKey[];
  source: string;
}

const PROPOSAL = '2017, https://github.com/kubernetes/community/pull/692 (comment of 2017-06-07)';
const PARTIAL_SYNC = '2024, https://github.com/kubernetes/kubernetes/pull/126013 (a kind cluster)';

export const PUBLISHED: readonly Published[] = [
  {
    mode: 'iptables',
    what: 'latency to add rules, 5,000 services (40,000 rules)',
    figure: '11 min',
    ours: [['program', 'cold-5000', 'meshd', 'time']],
    source: PROPOSAL,
  },
  {
    mode: 'iptables',
    what: 'latency to add rules, 20,000 services (160,000 rules)',
    figure: '5 hours',
    ours: [['program', 'cold-20000', 'meshd', 'time']],
    source: PROPOSAL,
  },
  {
    mode: 'ipvs',
    what: 'one sync of all rules, 1,500 services with external addresses; before and after a fix',
    figure: '12.0 s; 0.73 s',
    ours: [['program', 'one-of-1000', 'meshd', 'time']],
    source: '2019, https://github.com/kubernetes/kubernetes/issues/84906',
  },
  {
    mode: 'nftables',
    what: 'creating 10,000 services × 2 endpoints, without and with partial sync',
    figure: '25 min; 9 min',
    ours: [['program', 'cold-20000', 'meshd', 'time']],
    source: PARTIAL_SYNC,
  },
  {
    mode: 'nftables',
    what: 'adding one service to 10,000, without and with partial sync',
    figure: '8 min; 141 ms',
    ours: [['program', 'one-of-20000', 'meshd', 'publish']],
    source: PARTIAL_SYNC,
  },
  {
    mode: 'nftables',
    what: 'full sync of 44,125 services',
    figure: '16 min 43 s',
    ours: [['program', 'cold-50000', 'meshd', 'time']],
    source: '2026, https://github.com/kubernetes/kubernetes/issues/139513 (v1.36.1)',
  },
  {
    mode: 'nftables',
    what: 'incremental sync among 44,128 services, with a proposed change that skips the listing',
    figure: '1.3 s',
    ours: [['program', 'one-of-50000', 'meshd', 'publish']],
    source: '2026, https://github.com/kubernetes/kubernetes/issues/139513 (comment of 2026-06-08)',
  },
  {
    mode: 'iptables',
    what: 'first packet of a connection against the number of services',
    figure: 'grows with it; in nftables mode about constant (charts only)',
    ours: [
      ['growth', 'new-remote-0-services-3-nodes', 'mesh-path', 'ns_per_packet'],
      ['growth', 'new-remote-10000-services-3-nodes', 'mesh-path', 'ns_per_packet'],
    ],
    source: '2025, https://kubernetes.io/blog/2025/02/28/nftables-kube-proxy/',
  },
];
