import * as z from 'zod';
import type { PortSpec } from '../model/spec.ts';
import { describeValue, fail } from './fields.ts';
import { shorten } from './manifest-error.ts';
import { parseShortPort } from './ports.ts';

type Context = z.core.$RefinementCtx;

/** Target ports as one entry names them: `21`, `53/udp`, `8000-8009`. */
interface ReadyPorts {
  text: string;
  ports: PortSpec[];
}

const FORM = 'write it like `ready: [21, 53/udp]`, with the target ports that a task binds when it starts';

/** `x-mesh.ready` of a service: all other target ports are bound on demand. */
export const ready = z.array(z.unknown()).transform((list, ctx) =>
  list.map((value, index): ReadyPorts => {
    const text = typeof value === 'string' || typeof value === 'number' ? String(value) : '';
    const parsed = /^[\d-]+(\/\w+)?$/.test(text) ? parseShortPort(text) : undefined;
    if (parsed?.ok) return { text, ports: parsed.value };
    if (parsed !== undefined) fail(ctx, parsed.error.message, parsed.error.remedy, [index]);
    else {
      const what = text === '' ? `must be a port, but is ${describeValue(value)}` : `"${shorten(text)}" is not a port`;
      fail(ctx, what, FORM, [index]);
    }
    return { text, ports: [] };
  }),
);

/** The ports of a service, with `ready: false` for those whose target the list leaves out; a list that fits no port is reported. */
export function withReady(ports: readonly PortSpec[], list: ReadyPorts[] | undefined, ctx: Context): PortSpec[] {
  if (list === undefined) return [...ports];
  const path = ['x-mesh', 'ready'];
  if (ports.some((port) => port.ready === false)) {
    fail(ctx, 'conflicts with `ready: false` of a port', 'remove one of them', path);
  }
  const declared = new Set(ports.map(targetKey));
  for (const [index, { text, ports: named }] of list.entries()) {
    if (named.every((port) => declared.has(targetKey(port)))) continue;
    const remedy = `name target ports of \`ports\`${ports.length === 0 ? ', which is missing' : ''}; without a protocol tcp is meant`;
    fail(ctx, `${text} is not a target port of this service`, remedy, [...path, index]);
  }
  const named = new Set(list.flatMap((entry) => entry.ports.map(targetKey)));
  return ports.map((port) => (named.has(targetKey(port)) ? port : { ...port, ready: false }));
}

function targetKey({ target, protocol }: PortSpec): string {
  return `${target}/${protocol}`;
}
