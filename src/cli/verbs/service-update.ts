import { LIMITS } from '../../manifest/limits.ts';
import { reportAndWait } from '../apply-result.ts';
import { type Context, UsageError } from '../context.ts';
import { parsePublishAdd, parsePublishRm } from '../publish-option.ts';

export interface ServiceUpdateOptions {
  publishAdd?: string[];
  publishRm?: string[];
  force?: boolean;
  replicas?: string;
  detach?: boolean;
  /** Milliseconds. */
  timeout?: number;
}

/** `meshctl service update SERVICE …`: changes without a manifest, in one transaction. */
export async function serviceUpdate(context: Context, name: string, options: ServiceUpdateOptions): Promise<number> {
  const { publishAdd = [], publishRm = [], force = false, replicas } = options;
  if (publishAdd.length === 0 && publishRm.length === 0 && !force && replicas === undefined) {
    throw new UsageError(
      'nothing to change; use --publish-add PORT, --publish-rm PORT, --force or --replicas N; change other settings in the manifest (`meshctl apply FILE`)',
    );
  }
  const request = {
    service: name,
    force,
    publishAdd: publishAdd.flatMap(parsePublishAdd),
    publishRemove: publishRm.flatMap(parsePublishRm),
    ...(replicas === undefined ? {} : { replicas: parseReplicas(replicas) }),
  };
  const reply = await (await context.api()).control.updateService(request);
  return reportAndWait(context, reply.services, options);
}

function parseReplicas(text: string): number {
  const replicas = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (replicas <= LIMITS.replicas) return replicas;
  throw new UsageError(`--replicas "${text}" is not a number of replicas; use 0-${LIMITS.replicas}`);
}
