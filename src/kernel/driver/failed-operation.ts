import { MeshError } from '../../base/errors.ts';
import type { Op } from '../../model/kernel-state.ts';
import { renderOp } from '../../model/render.ts';
import { linuxKind } from '../kinds/registry.ts';
import type { Failure } from './failure.ts';

/** Whether a failed operation may have its result all the same, so that a new observation decides. */
export function needsVerification(op: Op, failure: Failure): boolean {
  if (failure instanceof Error) return false;
  if (failure.outcomeUnknown) return true;
  const { present, absent } = linuxKind(op.object).failures;
  return op.verb === 'create' ? present.has(failure.code) : op.verb === 'delete' && absent.has(failure.code);
}

/** The operation as a command, the kernel's message, and what to do, if known. */
export function toMeshError(op: Op, failure: Failure): MeshError {
  const command = renderOp(op).join(' && ') || `${op.verb} ${op.object.kind}`;
  if (failure instanceof MeshError) {
    return new MeshError(failure.code, `${command}: ${failure.message}`, { retry: failure.retry, cause: failure });
  }
  const { code, text } = failure;
  const words = text === undefined || text.startsWith(code) ? (text ?? code) : `${code} (${text})`;
  const hint = remedyFor(op, code);
  return new MeshError('kernel', `${command}: ${words}${hint === undefined ? '' : `; ${hint}`}`, {
    retry: failure.outcomeUnknown === true || linuxKind(op.object).failures.transient.has(code),
    cause: failure,
  });
}

function remedyFor(op: Op, code: string): string | undefined {
  if (code === 'EPERM' || code === 'EACCES') return 'meshd needs CAP_NET_ADMIN and CAP_SYS_ADMIN: run it as root';
  return linuxKind(op.object).remedy?.(op, code);
}
