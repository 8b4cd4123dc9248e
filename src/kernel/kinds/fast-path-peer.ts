import { ERRNO_CODES } from './failure-codes.ts';
import { fastPathSteps, observeFastPath } from './fast-path-common.ts';
import { netnsNames } from './kernel-rules.ts';
import type { LinuxKind } from './kind.ts';

/** Another node in the map of nodes whose VXLAN packets the fast path accepts. */
export const fastPathPeerKind: LinuxKind<'fast-path-peer'> = {
  steps: fastPathSteps,
  observer: observeFastPath,
  audit: 'costly',
  related: [],
  failures: ERRNO_CODES,
  rules: { livesIn: ({ netns }) => netnsNames(netns) },
};
