import { LIMITS } from '../../manifest/limits.ts';
import type { ScaleTarget } from '../../rpc/messages.ts';
import { type ApplyOptions, reportAndWait } from '../apply-result.ts';
import { type Context, UsageError } from '../context.ts';

/** `meshctl service scale SERVICE=N…` */
export async function serviceScale(context: Context, words: string[], options: ApplyOptions): Promise<number> {
  const targets = words.map(parseTarget);
  const duplicate = targets.find(
    ({ service }, index) => targets.findIndex((other) => other.service === service) !== index,
  );
  if (duplicate !== undefined)
    throw new UsageError(`${duplicate.service} is specified twice; specify each service once`);
  const reply = await (await context.api()).control.scale({ targets });
  return reportAndWait(context, reply.services, options);
}

function parseTarget(word: string): ScaleTarget {
  const match = /^([^=]+)=(\d{1,9})$/.exec(word);
  if (match === null) throw new UsageError(`"${word}" is not SERVICE=N; use the form web=5`);
  const replicas = Number(match[2]);
  if (replicas > LIMITS.replicas) {
    throw new UsageError(`${replicas} replicas exceed the maximum of ${LIMITS.replicas} per service`);
  }
  return { service: match[1]!, replicas };
}
