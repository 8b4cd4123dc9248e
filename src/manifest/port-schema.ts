import * as z from 'zod';
import { sameValue } from '../model/equality.ts';
import type { PortSpec } from '../model/spec.ts';
import { balancing } from './balancing-schema.ts';
import { describeValue, fail, withoutExtensions } from './fields.ts';
import { LIMITS } from './limits.ts';
import { parseHost, sortedNetworks } from './networks.ts';
import { comparePorts, type PortError, parseLongPort, parseShortPort } from './ports.ts';

type Context = z.core.$RefinementCtx;

const portNumber = z.union([z.string(), z.number()]);
/** The long form of a port; `name` and `app_protocol` are notes for people. */
export const longPort = z.strictObject({
  target: portNumber,
  published: portNumber.optional(),
  protocol: z.string().optional(),
  mode: z.string().optional(),
  host_ip: z.unknown().optional(),
  name: z.unknown().optional(),
  app_protocol: z.unknown().optional(),
  'x-mesh': balancing.optional(),
});

/** A port, and whether it has a host address: the same port may then be declared once per address. */
interface ParsedPort {
  port: PortSpec;
  entry: number;
  addressed: boolean;
}

const entry = z.unknown().transform((value, ctx): Omit<ParsedPort, 'entry'>[] => {
  const report = (problem: PortError, path: string[] = []): [] => {
    fail(ctx, problem.message, problem.remedy, path);
    return [];
  };
  if (typeof value === 'string' || typeof value === 'number') {
    const short = parseShortPort(String(value));
    if (!short.ok) return report(short.error);
    return short.value.map((port) => ({ port, addressed: port.addresses !== undefined }));
  }
  const long = longPort.safeParse(withoutExtensions(value, ['x-mesh']));
  if (!long.success) {
    for (const issue of long.error.issues) ctx.addIssue({ ...issue } as Parameters<typeof ctx.addIssue>[0]);
    return [];
  }
  const { host_ip, mode, 'x-mesh': mesh = {}, ...fields } = long.data;
  const parsed = parseLongPort({ ...fields, mode });
  if (!parsed.ok) return report(parsed.error, parsed.error.key === undefined ? [] : [parsed.error.key]);
  const address = hostAddress(host_ip, mesh, ctx);
  if (mode === 'host') rejectBalancing(mesh, ctx);
  return parsed.value.map((port) => ({ port: { ...port, ...mesh, ...address }, addressed: 'addresses' in address }));
});

function hostAddress(value: unknown, mesh: Partial<PortSpec>, ctx: Context): { addresses?: string[] } {
  // Docker treats an empty text as no address.
  if (value === undefined || value === '') return {};
  const remedy = 'remove one of them';
  if (mesh.addresses !== undefined) fail(ctx, 'conflicts with `x-mesh.ingress.addresses`', remedy, ['host_ip']);
  const parsed = typeof value === 'string' ? parseHost(value) : undefined;
  if (parsed?.ok) return { addresses: [parsed.value] };
  const error = parsed?.error ?? {
    message: `must be an address, but is ${describeValue(value)}`,
    remedy: 'write it like `host_ip: 192.0.2.7`',
  };
  fail(ctx, error.message, error.remedy, ['host_ip']);
  return {};
}

const BALANCING_FIELDS = [
  ['scheduler', 'scheduler'],
  ['schedulerFlags', 'scheduler_flags'],
  ['fallback', 'fallback'],
  ['persistence', 'persistence'],
  ['policy', 'policy'],
] as const;

/** A port in mode host has one task: there is nothing to balance. */
function rejectBalancing(mesh: Partial<PortSpec>, ctx: Context): void {
  for (const [field, key] of BALANCING_FIELDS) {
    if (mesh[field] === undefined) continue;
    const message = `\`${key}\` has no effect in mode host, where a port has one task`;
    fail(ctx, message, 'remove it, or use `mode: ingress`', ['x-mesh', key]);
  }
  if (mesh.nodes !== undefined) {
    const remedy = 'remove it, and choose the nodes of the tasks with `deploy.placement.constraints`';
    fail(ctx, "`nodes` has no effect in mode host, where a port is published on the task's node", remedy, [
      'x-mesh',
      'ingress',
      'nodes',
    ]);
  }
}

/** Whether two entries are one port, as in `127.0.0.1:80:80` and `[::1]:80:80`. */
function isSamePublication(a: ParsedPort, b: Omit<ParsedPort, 'entry'>): boolean {
  const { addresses: _, ...one } = a.port;
  const { addresses: __, ...other } = b.port;
  return a.addressed && one.published !== undefined && sameValue(one, other);
}

/** Ports with the index of the entry they come from, in canonical order. */
export const ports = z.array(entry).transform((entries, ctx) => {
  const all: ParsedPort[] = [];
  for (const [entry, list] of entries.entries()) {
    for (const written of list) {
      const duplicate = written.addressed ? all.find((other) => isSamePublication(other, written)) : undefined;
      if (duplicate === undefined) all.push({ ...written, entry });
      else
        duplicate.port = {
          ...duplicate.port,
          addresses: sortedNetworks([...(duplicate.port.addresses ?? []), ...(written.port.addresses ?? [])]),
        };
    }
  }
  if (all.length > LIMITS.ports) {
    fail(ctx, `${all.length} ports are more than the ${LIMITS.ports} of one service`, 'publish fewer ports');
  }
  return all.map(({ port, entry }) => ({ port, entry })).sort((a, b) => comparePorts(a.port, b.port));
});
