import { ERRNO_CODES } from './failure-codes.ts';
import { fastPathSteps, observeFastPath } from './fast-path-common.ts';
import { netnsNames } from './kernel-rules.ts';
import type { LinuxKind } from './kind.ts';

/** A published port in the map of ports that the fast path accepts. */
export const fastPathPortKind: LinuxKind<'fast-path-port'> = {
  steps: fastPathSteps,
  observer: observeFastPath,
  audit: 'costly',
  related: [],
  failures: ERRNO_CODES,
  rules: { livesIn: ({ netns }) => netnsNames(netns) },
};
