import { err, MeshError, ok, type Result } from '../base/errors.ts';
import { type KernelObject, type KernelState, keyOf, type ObjectKind } from './kernel-state.ts';
import { SCHEDULER_FLAGS } from './spec.ts';

/** A state as a JSON array, one object a line, ordered by key: equal states give equal text. */
export function stateToJson(state: KernelState): string {
  const keys = [...state.keys()].sort();
  return `[${keys.map((key) => `\n  ${JSON.stringify(state.get(key))}`).join(',')}\n]\n`;
}

/** Reads what `stateToJson` wrote; anything else is refused with the place of the first fault. */
export function stateFromJson(text: string): Result<Map<string, KernelObject>> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    return err(new MeshError('invalid', 'not JSON: give a state as this program printed it', { cause }));
  }
  if (!Array.isArray(parsed)) return err(new MeshError('invalid', 'a state is a JSON array of kernel objects'));
  const state = new Map<string, KernelObject>();
  for (const [index, item] of parsed.entries()) {
    const fault = findFault(item);
    if (fault !== undefined) return err(new MeshError('invalid', `object ${index + 1} of the state: ${fault}`));
    state.set(keyOf(item as KernelObject), item as KernelObject);
  }
  return ok(state);
}

type Check = (value: unknown) => boolean;

const text: Check = (value) => typeof value === 'string';
const number: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const flag: Check = (value) => typeof value === 'boolean';
const only =
  (wanted: unknown): Check =>
  (value) =>
    value === wanted;
const oneOf =
  (...values: string[]): Check =>
  (value) =>
    values.includes(value as string);
const optional =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);
const listOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check);
const shape =
  (fields: Record<string, Check>): Check =>
  (value) =>
    faultyField(value, fields) === undefined;
const either =
  (...checks: Check[]): Check =>
  (value) =>
    checks.some((check) => check(value));

const family = oneOf('inet', 'inet6');
const end = { netns: text, name: text, mtu: number, up: flag };
const table = oneOf('raw', 'mangle', 'nat', 'filter');

const FIELDS: { [kind in ObjectKind]: Record<string, Check> } = {
  netns: { loopbackUp: flag },
  veth: { ...end, peer: shape(end) },
  vxlan: {
    ...end,
    underlayNetns: text,
    vni: number,
    local: text,
    port: number,
    mac: text,
    gbp: flag,
    learning: flag,
  },
  sysctl: { name: text, value: text },
  address: { dev: text, address: text, prefix: number },
  neighbour: { dev: text, address: text, mac: text },
  fdb: { dev: text, mac: text, dst: text, vni: optional(number) },
  route: {
    type: oneOf('unicast', 'local'),
    destination: text,
    table: number,
    dev: text,
    via: optional(text),
    onlink: flag,
    scope: oneOf('global', 'link', 'host'),
    source: optional(text),
  },
  rule: {
    family,
    priority: number,
    fwmark: number,
    fwmask: number,
    action: either(oneOf('nop'), shape({ lookup: number }), shape({ goto: number })),
  },
  ipset: {
    name: text,
    type: oneOf('bitmap:port', 'hash:ip', 'hash:net,port', 'hash:net,port,net'),
    range: optional(shape({ from: number, to: number })),
    family: optional(family),
    skbinfo: flag,
  },
  'set-member': { set: text, port: number, mark: optional(number) },
  'set-entry': {
    set: text,
    network: text,
    protocol: optional(either(oneOf('tcp', 'udp', 'sctp'), number)),
    port: optional(number),
    network2: optional(text),
  },
  chain: {
    family,
    table,
    chain: text,
    rules: (value) => Array.isArray(value) && value.every(text),
    administrator: optional(only(true)),
  },
  jump: { family, table, from: text, chain: text, match: text, position: oneOf('first', 'last') },
  'ipvs-timeouts': { tcp: number, tcpFin: number, udp: number },
  'virtual-service': {
    family,
    fwmark: number,
    at: optional(text),
    scheduler: text,
    flags: optional((value) => Array.isArray(value) && value.every(oneOf(...SCHEDULER_FLAGS))),
    persistence: optional(shape({ timeout: number, prefix: number })),
    servers: optional((value) => Array.isArray(value) && value.every(text)),
  },
  'real-server': { family, fwmark: number, at: optional(text), address: text, port: number, weight: number },
  'fast-path': {
    link: text,
    program: optional(
      either(
        shape({ type: oneOf('host-in'), address: text, lb: text, router: text, vni: number, number }),
        shape({ type: oneOf('host-out'), address: text }),
        shape({ type: oneOf('router-in') }),
        shape({ type: oneOf('task-out'), vxlan: text, lb: text, number }),
      ),
    ),
  },
  'fast-path-task': { address: text, link: text },
  'fast-path-port': { mark: number },
  'fast-path-peer': { address: text },
};

function findFault(item: unknown): string | undefined {
  if (typeof item !== 'object' || item === null) return 'is no object';
  const kind = (item as { kind?: unknown }).kind;
  if (typeof kind !== 'string' || !Object.hasOwn(FIELDS, kind)) return `unknown kind ${JSON.stringify(kind)}`;
  const field = faultyField(item, {
    kind: text,
    netns: text,
    foreign: optional(listOf(text)),
    ...FIELDS[kind as ObjectKind],
  });
  return field === undefined ? undefined : `field "${field}" of a ${kind} is missing, unknown or wrong`;
}

/** The first field that is not as it should be; fields nobody asked for count as faulty. */
function faultyField(value: unknown, fields: Record<string, Check>): string | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return '';
  const given = value as Record<string, unknown>;
  const wrong = Object.keys(fields).find((name) => !fields[name]!(given[name]));
  return wrong ?? Object.keys(given).find((name) => !Object.hasOwn(fields, name));
}
