import * as z from 'zod';
import type { Cidr } from '../model/address.ts';
import {
  type Persistence,
  type PortSpec,
  SCHEDULER_FLAGS,
  SCHEDULERS,
  type SchedulerFlag,
  TRAFFIC_POLICIES,
} from '../model/spec.ts';
import { constraints, describeValue, duration, fail, flag, oneOf } from './fields.ts';
import { LIMITS } from './limits.ts';
import { parseNetwork, sortedNetworks } from './networks.ts';

/** Networks in canonical form, sorted, each once. */
const networks = z.array(z.unknown()).transform((list, ctx): Cidr[] => {
  const found = new Set<Cidr>();
  for (const [index, value] of list.entries()) {
    const parsed = typeof value === 'string' ? parseNetwork(value) : undefined;
    if (parsed?.ok) found.add(parsed.value);
    else if (parsed !== undefined) fail(ctx, parsed.error.message, parsed.error.remedy, [index]);
    else fail(ctx, `must be a network, but is ${describeValue(value)}`, 'write it like "10.0.0.0/8"', [index]);
  }
  if (list.length === 0) {
    fail(ctx, 'is an empty list', 'name at least one network, or remove the key; "0.0.0.0/0" and "::/0" mean all');
  }
  if (found.size > LIMITS.cidrs) {
    fail(ctx, `has more than ${LIMITS.cidrs} networks`, 'merge them into larger networks');
  }
  return sortedNetworks(found);
});

const nodes = constraints.transform((list, ctx) => {
  if (list.length === 0) {
    fail(ctx, 'is an empty list', 'name at least one constraint, or remove the key to publish on every node');
  }
  return list;
});

/** Milliseconds, in whole seconds as the kernel counts. */
const seconds = duration.transform((milliseconds, ctx): number => {
  if (milliseconds < 1000 || milliseconds % 1000 !== 0) {
    fail(ctx, 'is not a number of whole seconds', 'choose at least 1s, without a fraction: the kernel counts seconds');
  }
  return milliseconds;
});

/** `/24`, `24`, and for IPv4 `255.255.255.0`. */
function mask(bits: 32 | 128) {
  return z.unknown().transform((value, ctx): number => {
    const text = typeof value === 'number' || typeof value === 'string' ? String(value) : '';
    const length = /^\/?(\d{1,3})$/.exec(text)?.[1];
    const prefix = length !== undefined ? Number(length) : bits === 32 ? maskToPrefix(text) : undefined;
    if (prefix === undefined || prefix < 1 || prefix > bits) {
      const form = bits === 32 ? '/24 or 255.255.255.0' : '/64';
      fail(ctx, `must be a mask, but is ${describeValue(value)}`, `write it like ${form}; choose one of /1-/${bits}`);
      return bits;
    }
    return prefix;
  });
}

function maskToPrefix(text: string): number | undefined {
  if (!/^\d{1,3}(\.\d{1,3}){3}$/.test(text)) return undefined;
  const bytes = text.split('.').map(Number);
  if (bytes.some((byte) => byte > 255)) return undefined;
  const ones = /^(1*)0*$/.exec(bytes.map((byte) => byte.toString(2).padStart(8, '0')).join(''))?.[1];
  return ones?.length;
}

const persistenceMap = z.strictObject({ timeout: seconds, mask: mask(32).optional(), mask6: mask(128).optional() });

const persistence = z.preprocess(
  (value) => (typeof value === 'string' || typeof value === 'number' ? { timeout: value } : value),
  persistenceMap.transform(
    ({ timeout, mask = 32, mask6 = 128 }): Persistence => ({ timeout, prefix: { inet: mask, inet6: mask6 } }),
  ),
);

const flags = z.array(oneOf(...SCHEDULER_FLAGS)).transform((list, ctx): SchedulerFlag[] => {
  if (list.length === 0) fail(ctx, 'is an empty list', 'name at least one flag, or remove the key');
  return SCHEDULER_FLAGS.filter((flag) => list.includes(flag));
});

const ingress = z.strictObject({ nodes: nodes.optional(), addresses: networks.optional() });

/** `x-mesh` of a long port: where it is published, for which clients, and how connections are balanced. */
const portMesh = z.strictObject({
  ingress: ingress.optional(),
  allow_from: networks.optional(),
  scheduler: oneOf(...SCHEDULERS).optional(),
  scheduler_flags: flags.optional(),
  fallback: oneOf(...SCHEDULERS).optional(),
  persistence: persistence.optional(),
  idle_timeout: seconds.optional(),
  policy: oneOf(...TRAFFIC_POLICIES).optional(),
  ready: flag.optional(),
});

type Balancing = Omit<PortSpec, 'protocol' | 'target' | 'published' | 'mode'>;

/** The same as fields of the model; defaults are omitted, so that declaring one changes nothing. */
export const balancing = portMesh.transform((given, ctx): Balancing => {
  const { scheduler = 'rr', scheduler_flags: chosen, fallback, policy, ready } = given;
  for (const flag of chosen ?? []) {
    if (flag.startsWith(`${scheduler}-`)) continue;
    const remedy = `use \`scheduler: ${flag.slice(0, flag.indexOf('-'))}\`, or remove the flag`;
    fail(ctx, `${flag} is not a flag of the scheduler ${scheduler}`, remedy, ['scheduler_flags']);
  }
  if (fallback === scheduler) {
    const remedy = `name another one, or remove it${scheduler === 'rr' ? '' : ': the fallback is rr then'}`;
    fail(ctx, `the fallback equals the scheduler`, remedy, ['fallback']);
  }
  const { nodes, addresses } = given.ingress ?? {};
  return {
    ...(scheduler === 'rr' ? {} : { scheduler }),
    ...(chosen === undefined ? {} : { schedulerFlags: chosen }),
    ...(fallback === undefined || fallback === 'rr' ? {} : { fallback }),
    ...(given.persistence === undefined ? {} : { persistence: given.persistence }),
    ...(given.idle_timeout === undefined ? {} : { idleTimeout: given.idle_timeout }),
    ...(policy === undefined || policy === 'cluster' ? {} : { policy }),
    ...(ready === false ? { ready } : {}),
    ...(nodes === undefined ? {} : { nodes }),
    ...(addresses === undefined ? {} : { addresses }),
    ...(given.allow_from === undefined ? {} : { allowFrom: given.allow_from }),
  };
});

/** Keys by their place below `x-mesh` of a port. */
export const BALANCING_KEYS: Readonly<Record<string, string[]>> = {
  '': Object.keys(portMesh.shape),
  ingress: Object.keys(ingress.shape),
  persistence: Object.keys(persistenceMap.shape),
};
