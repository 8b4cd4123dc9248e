import { err, ok, type Result } from '../base/errors.ts';
import type { Protocol } from '../model/address.ts';
import type { PortSpec } from '../model/spec.ts';
import { LIMITS } from './limits.ts';
import { shorten } from './manifest-error.ts';
import { parseHost } from './networks.ts';

/** An invalid port; `key` names the field of the long form. */
export interface PortError {
  message: string;
  remedy: string;
  key?: 'target' | 'published' | 'protocol' | 'mode';
}

interface Range {
  first: number;
  last: number;
}

/** `[[host:]published:]target[/protocol]`, each side a port or a range; a range gives one port for each number. */
export function parseShortPort(text: string): Result<PortSpec[], PortError> {
  const slash = text.indexOf('/');
  const protocol = parseProtocol(slash < 0 ? 'tcp' : text.slice(slash + 1));
  if (!protocol.ok) return protocol;
  const rest = slash < 0 ? text : text.slice(0, slash);
  const address = /^(?:\[([^\]]*)\]|([^:[\]]*)):(?=[^:]*:[^:]*$)/.exec(rest);
  if (address === null && /[[\]]|\..*:|:.*:/.test(rest)) return err(AMBIGUOUS_ADDRESS);
  const [left, right] = rest.slice(address?.[0].length ?? 0).split(':');
  const target = parseRange(right ?? left!, 'target');
  if (!target.ok) return target;
  // `:80` is compose's way to ask for an automatic published port.
  const published = right === undefined || left === '' ? ok(undefined) : parseRange(left!, 'published');
  if (!published.ok) return published;
  const ports = expandRange(protocol.value, target.value, published.value, 'ingress');
  if (address === null || !ports.ok) return ports;
  const network = parseHost(address[1] ?? address[2]!);
  return network.ok ? ok(ports.value.map((port) => ({ ...port, addresses: [network.value] }))) : network;
}

const AMBIGUOUS_ADDRESS: PortError = {
  message: 'has a host address that is ambiguous',
  remedy: 'write "192.0.2.7:8080:80", "192.0.2.7::80" or "[2001:db8::7]:8080:80"',
};

/** The fields of the long form, as written. */
export function parseLongPort(fields: {
  target: string | number;
  published?: string | number | undefined;
  protocol?: string | undefined;
  mode?: string | undefined;
}): Result<PortSpec[], PortError> {
  const protocol = parseProtocol(fields.protocol ?? 'tcp');
  if (!protocol.ok) return protocol;
  const mode = parseMode(fields.mode ?? 'ingress');
  if (!mode.ok) return mode;
  const target = parseRange(String(fields.target), 'target');
  if (!target.ok) return target;
  if (target.value.first !== target.value.last) {
    return err({
      message: 'target is a range',
      remedy: 'write ranges in the short form, such as "8000-8009:80-89"',
      key: 'target',
    });
  }
  // Docker reads 0 and an empty text as "choose one".
  if (fields.published === undefined || fields.published === '' || Number(fields.published) === 0) {
    return expandRange(protocol.value, target.value, undefined, mode.value);
  }
  const published = parseRange(String(fields.published), 'published');
  return published.ok ? expandRange(protocol.value, target.value, published.value, mode.value) : published;
}

function parseProtocol(text: string): Result<Protocol, PortError> {
  const protocol = text.toLowerCase();
  if (protocol === 'tcp' || protocol === 'udp' || protocol === 'sctp') return ok(protocol);
  return err({ message: `protocol "${shorten(text)}" is unknown`, remedy: 'choose tcp, udp or sctp', key: 'protocol' });
}

function parseMode(text: string): Result<PortSpec['mode'], PortError> {
  const mode = text.toLowerCase();
  if (mode === 'ingress' || mode === 'host') return ok(mode);
  return err({ message: `mode "${shorten(text)}" is unknown`, remedy: 'choose ingress or host', key: 'mode' });
}

function parseRange(text: string, key: 'target' | 'published'): Result<Range, PortError> {
  const match = /^(\d{1,10})(?:-(\d{1,10}))?$/.exec(text);
  if (match === null) {
    return err({
      message: `${key} port "${shorten(text)}" is not a number`,
      remedy: 'write ports as 80, "8080:80", "5353:53/udp" or "8000-8009:80-89"',
      key,
    });
  }
  const first = Number(match[1]);
  const last = match[2] === undefined ? first : Number(match[2]);
  for (const port of [first, last]) {
    if (port < 1 || port > 65535) {
      return err({ message: `${key} port ${port} is outside 1-65535`, remedy: 'choose one of 1-65535', key });
    }
  }
  if (last < first) {
    return err({ message: `${key} ports ${text} end before they begin`, remedy: `write ${last}-${first}`, key });
  }
  return ok({ first, last });
}

function expandRange(
  protocol: Protocol,
  target: Range,
  published: Range | undefined,
  mode: PortSpec['mode'],
): Result<PortSpec[], PortError> {
  const count = target.last - target.first + 1;
  const publishedCount = published === undefined ? count : published.last - published.first + 1;
  if (publishedCount !== count) {
    return err({
      message: `${publishedCount} published ports for ${count} target ${count === 1 ? 'port' : 'ports'}`,
      remedy: 'make both ranges equally long; choosing one port of a range is not supported',
      key: 'published',
    });
  }
  if (count > LIMITS.ports) {
    const remedy = 'publish a shorter range';
    return err({ message: `${count} ports are more than the ${LIMITS.ports} of one service`, remedy });
  }
  return ok(
    Array.from({ length: count }, (_, index) => ({
      protocol,
      target: target.first + index,
      ...(published === undefined ? {} : { published: published.first + index }),
      mode,
    })),
  );
}

/** Canonical order: by published port, automatic ones last, then target, protocol and mode. */
export function comparePorts(a: PortSpec, b: PortSpec): number {
  return (
    (a.published ?? 65_536) - (b.published ?? 65_536) ||
    a.target - b.target ||
    compareText(a.protocol, b.protocol) ||
    compareText(b.mode, a.mode)
  );
}

const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
