import { UNKNOWN_LINK } from '../fast-path/fast-path-driver.ts';
import { ERRNO_CODES } from './failure-codes.ts';
import { fastPathSteps, observeFastPath } from './fast-path-common.ts';
import { linkName, netnsNames } from './kernel-rules.ts';
import type { LinuxKind } from './kind.ts';

/** A task in the map of tasks that the fast path delivers to, with the ifindex of its link. */
export const fastPathTaskKind: LinuxKind<'fast-path-task'> = {
  steps: fastPathSteps,
  observer: observeFastPath,
  audit: 'costly',
  related: ['link', 'network'],
  failures: ERRNO_CODES,
  rules: {
    livesIn: ({ netns }) => netnsNames(netns),
    indexes: ({ netns, link }) => [linkName(netns, link)],
    withoutIndex: (task) => ({ ...task, link: UNKNOWN_LINK }),
  },
};
