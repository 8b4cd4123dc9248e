import { MeshError } from '../../base/errors.ts';
import type { RequestFailure } from './exchange.ts';
import { toRequestFailure } from './transport.ts';

/** Why a step failed: the kernel's error, or one of ours. */
export type Failure = RequestFailure | MeshError;

/** What was thrown, as a failure of the step it was thrown in. */
export function toFailure(thrown: unknown): Failure {
  return thrown instanceof MeshError ? thrown : toRequestFailure(thrown);
}

/** A missing link, in the form of the system error that SIOCGIFINDEX gives, so that it counts as absent. */
export function linkNotFound(netns: string, name: string): Error {
  return Object.assign(new Error(`${netns} has no link ${name}`), { code: 'ENODEV', syscall: 'ioctl' });
}
