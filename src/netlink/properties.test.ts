import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readGoldens } from '../../test/goldens/read.ts';
import { MeshError, type Result } from '../base/errors.ts';
import type { Family } from '../model/address.ts';
import { decodeAddress, newAddress } from './address.ts';
import { decodeGenlFamily } from './genetlink.ts';
import { formatAddress, formatMac, parseAddress } from './ip.ts';
import { addEntries, collectSets, createSet, decodeFailedEntry, decodeSetPart, decodeSetType } from './ipset.ts';
import type { SetEntry } from './ipset-entry.ts';
import { decodeConfig, decodeInfo, decodeService, newService, type ServiceKey, setConfig } from './ipvs.ts';
import { decodeDestination, newDestination } from './ipvs-destination.ts';
import { decodeLink, newLink } from './link.ts';
import {
  decodeAck,
  decodeMessages,
  encodeBatch,
  encodedLength,
  type NetlinkMessage,
  type NetlinkRequest,
} from './message.ts';
import { decodeFdb, decodeNeighbour, isFdb, newFdb, newNeighbour } from './neighbour.ts';
import { decodeNetnsId, newNetnsId } from './netns-id.ts';
import { decodeRoute, newRoute } from './route.ts';
import { decodeRule, newRule } from './rule.ts';
import { decodeSocket } from './sock-diag.ts';
import { decodeFilter, decodeQdisc } from './traffic-control.ts';

const decoders: ((message: NetlinkMessage) => unknown)[] = [
  decodeAck,
  decodeAddress,
  decodeConfig,
  decodeDestination,
  decodeFailedEntry,
  decodeFdb,
  decodeGenlFamily,
  decodeInfo,
  decodeLink,
  decodeNeighbour,
  decodeNetnsId,
  decodeRoute,
  decodeRule,
  decodeService,
  decodeSetPart,
  decodeSetType,
  decodeSocket,
  decodeQdisc,
  decodeFilter,
  isFdb,
  (message) => collectSets([message, message]),
];

/** Types accepted by decoders, so that generated payloads pass the first check. */
const types = [2, 3, 16, 17, 20, 24, 28, 32, 88, 20, 0x607, 0x60d];

function expectNoThrow(datagram: Uint8Array): void {
  const messages = decodeMessages(datagram);
  if (!messages.ok) {
    expect(messages.error).toBeInstanceOf(MeshError);
    return;
  }
  for (const message of messages.value) {
    for (const decode of decoders) {
      const result = decode(message) as Result<unknown> | number | boolean | undefined;
      if (typeof result !== 'object' || result.ok) continue;
      if (!(result.error instanceof MeshError && result.error.code === 'invalid')) throw result.error;
    }
  }
}

const datagrams = (['rtnetlink', 'ipset', 'ipvs', 'sock-diag', 'traffic-control'] as const)
  .flatMap((name) => readGoldens(name))
  .flatMap((golden) => golden.datagrams);

describe('decoders are total', () => {
  const golden = fc.constantFrom(...datagrams);

  it('on goldens with bytes changed', () => {
    const changes = fc.array(fc.tuple(fc.nat(), fc.oneof(fc.constantFrom(0, 1, 3, 0xff), fc.nat(255))), {
      minLength: 1,
      maxLength: 8,
    });
    fc.assert(
      fc.property(golden, changes, (datagram, edits) => {
        const changed = datagram.slice();
        for (const [at, value] of edits) changed[at % changed.length] = value;
        expectNoThrow(changed);
      }),
      { numRuns: 1000 },
    );
  });

  it('on goldens with only the payload changed, so that the header stays valid', () => {
    const changes = fc.array(fc.tuple(fc.nat(), fc.oneof(fc.constantFrom(0, 1, 4, 0xff), fc.nat(255))), {
      minLength: 1,
      maxLength: 6,
    });
    fc.assert(
      fc.property(golden, changes, (datagram, edits) => {
        const changed = datagram.slice();
        for (const [at, value] of edits) if (changed.length > 16) changed[16 + (at % (changed.length - 16))] = value;
        expectNoThrow(changed);
      }),
      { numRuns: 1000 },
    );
  });

  it('on goldens truncated or with trailing bytes', () => {
    fc.assert(
      fc.property(golden, fc.nat(), fc.uint8Array({ maxLength: 40 }), (datagram, length, more) => {
        const cut = datagram.slice(0, length % (datagram.length + 1));
        expectNoThrow(cut);
        if (cut.length >= 16) {
          // The header's length matches the truncation, so the error is found further inside.
          new DataView(cut.buffer).setUint32(0, cut.length, true);
          expectNoThrow(cut);
        }
        expectNoThrow(Uint8Array.from([...datagram, ...more]));
      }),
      { numRuns: 500 },
    );
  });

  it('on any bytes under any header', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...types),
        fc.nat(0xffff),
        fc.uint8Array({ maxLength: 200 }),
        (type, flags, payload) => {
          expectNoThrow(encodeBatch([{ type, flags, payload }], 1));
          expectNoThrow(payload);
        },
      ),
      { numRuns: 1000 },
    );
  });
});

const uint = (bits: number) => fc.integer({ min: 0, max: 2 ** bits - 1 });
const ip = (family: Family) =>
  fc
    .uint8Array(family === 'inet' ? { minLength: 4, maxLength: 4 } : { minLength: 16, maxLength: 16 })
    .map(formatAddress);
const anyIp = fc.oneof(ip('inet'), ip('inet6'));
const mac = fc.uint8Array({ minLength: 6, maxLength: 6 }).map(formatMac);
const prefixOf = (address: string) => uint(7).map((n) => n % (address.includes(':') ? 129 : 33));
const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,14}$/);

/** The kernel's reply if it echoed the request. */
function roundTrip<T>(request: NetlinkRequest, decode: (message: NetlinkMessage) => Result<T>, type = request.type): T {
  const messages = decodeMessages(encodeBatch([{ ...request, type }], 7));
  if (!messages.ok) throw messages.error;
  const result = decode(messages.value[0]!);
  if (!result.ok) throw result.error;
  return result.value;
}

describe('encoding and decoding round-trip', () => {
  it('links', () => {
    const vxlan = fc.record({
      kind: fc.constant('vxlan' as const),
      vni: uint(24),
      local: fc.option(anyIp, { nil: undefined }),
      port: uint(16),
      learning: fc.boolean(),
      gbp: fc.boolean(),
      ttl: uint(8),
      limit: uint(32),
      sourcePorts: fc.record({ from: uint(16), to: uint(16) }),
    });
    fc.assert(
      fc.property(name, uint(16), mac, fc.boolean(), vxlan, (link, mtu, address, up, config) => {
        const decoded = roundTrip(newLink({ name: link, mtu, mac: address, up, config }), decodeLink);
        expect(decoded).toMatchObject({ name: link, mtu, mac: address, up, kind: 'vxlan' });
        expect(decoded.vxlan).toMatchObject(config);
      }),
    );
  });

  it('addresses', () => {
    const spec = anyIp.chain((address) =>
      fc.record({
        index: uint(31),
        address: fc.constant(address),
        prefix: prefixOf(address),
        scope: uint(8),
        flags: uint(12),
      }),
    );
    fc.assert(
      fc.property(spec, (value) => {
        expect(roundTrip(newAddress(value), decodeAddress)).toMatchObject(value);
      }),
    );
  });

  it('routes', () => {
    const route = fc.constantFrom<Family>('inet', 'inet6').chain((family) =>
      fc.record({
        destination: ip(family).chain((address) =>
          prefixOf(address).map((prefix) => `${address}/${prefix === 0 ? 1 : prefix}`),
        ),
        type: fc.constantFrom('unicast' as const, 'local' as const, 'blackhole' as const),
        table: uint(32).map((table) => table || 1),
        protocol: uint(8),
        scope: fc.constantFrom('global' as const, 'link' as const, 'host' as const),
        index: uint(31),
        via: ip(family),
        onlink: fc.boolean(),
        source: ip(family),
        priority: uint(32),
      }),
    );
    fc.assert(
      fc.property(route, (value) => {
        expect(roundTrip(newRoute(value), decodeRoute)).toMatchObject(value);
      }),
    );
  });

  it('rules', () => {
    const action = fc.oneof(
      uint(32).map((lookup) => ({ lookup })),
      uint(32).map((target) => ({ goto: target })),
      fc.constant('nop' as const),
    );
    const family = fc.constantFrom<Family>('inet', 'inet6');
    const rule = fc.record({
      family,
      priority: uint(32),
      fwmark: uint(32),
      fwmask: uint(32),
      action,
      protocol: uint(8),
    });
    fc.assert(
      fc.property(rule, (value) => {
        expect(roundTrip(newRule(value), decodeRule)).toEqual({ ...value, otherSelectors: false });
      }),
    );
    const range = fc.record({ from: uint(16), to: uint(16) });
    const selectors = fc.record({
      source: fc.constantFrom('192.0.2.0/24', '10.252.1.2/32'),
      destination: fc.constantFrom('198.51.100.0/31', '0.0.0.0/1'),
      ipProtocol: uint(8),
      sourcePorts: range,
      destinationPorts: range,
      suppressPrefix: fc.nat(32),
      action: fc.constantFrom('blackhole' as const, 'unreachable' as const, 'prohibit' as const),
    });
    fc.assert(
      fc.property(rule, selectors, (value, more) => {
        const whole = { ...value, ...more, family: 'inet' as const };
        expect(roundTrip(newRule(whole), decodeRule)).toEqual({ ...whole, otherSelectors: true });
      }),
    );
  });

  it('neighbours, forwarding entries and netns ids', () => {
    fc.assert(
      fc.property(uint(31), anyIp, mac, fc.integer({ min: -1, max: 2 ** 31 - 1 }), (index, address, link, id) => {
        expect(roundTrip(newNeighbour({ index, address, mac: link }), decodeNeighbour)).toMatchObject({
          index,
          address,
          mac: link,
        });
        expect(roundTrip(newFdb({ index, mac: link, dst: address }), decodeFdb)).toMatchObject({
          index,
          mac: link,
          dst: address,
        });
        expect(roundTrip(newNetnsId({ fd: 3 }, id), decodeNetnsId)).toEqual({ id });
      }),
    );
  });

  it('IPVS services, real servers and timeouts', () => {
    const key: fc.Arbitrary<ServiceKey> = fc.oneof(
      fc.record({ family: fc.constantFrom<Family>('inet', 'inet6'), fwmark: uint(32).map((mark) => mark || 1) }),
      fc.record({
        protocol: fc.constantFrom('tcp' as const, 'udp' as const, 'sctp' as const),
        address: anyIp,
        port: uint(16),
      }),
    );
    const settings = fc.record({ scheduler: name, flags: uint(32), timeout: uint(32), persistencePrefix: uint(5) });
    const destination = fc.record({ address: anyIp, port: uint(16) });
    const forwarding = fc.constantFrom('masquerade' as const, 'tunnel' as const, 'route' as const);
    const server = fc.record({ weight: uint(31), forwarding, upperThreshold: uint(32), lowerThreshold: uint(32) });
    fc.assert(
      fc.property(key, settings, destination, server, (service, value, place, state) => {
        expect(roundTrip(newService(32, service, value), decodeService)).toMatchObject({ key: service, ...value });
        expect(roundTrip(newDestination(32, service, place, state), decodeDestination)).toMatchObject({
          ...place,
          ...state,
        });
        const timeouts = { tcp: state.upperThreshold, tcpFin: value.timeout, udp: state.lowerThreshold };
        expect(roundTrip(setConfig(32, timeouts), decodeConfig)).toEqual(timeouts);
      }),
    );
  });

  it('sets and their elements, over any number of messages', () => {
    const skbMark = fc.record({ mark: uint(32), mask: uint(32) });
    const entry: fc.Arbitrary<SetEntry> = fc.oneof(
      fc.record({ port: uint(16), skbMark }),
      fc.record({ address: anyIp, protocol: fc.constantFrom('tcp' as const, 'udp' as const, 200), port: uint(16) }),
      fc.record({
        address: ip('inet'),
        prefix: fc.integer({ min: 1, max: 32 }),
        address2: ip('inet6'),
        prefix2: fc.integer({ min: 1, max: 128 }),
      }),
    );
    const LIST = 0x607;
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 20 }), fc.nat(80), fc.boolean(), (some, times, skbinfo) => {
        const entries = Array.from({ length: times }, () => some).flat();
        const range = { from: 1, to: 60_000 };
        const requests = [createSet({ name: 's', type: 'bitmap:port', range, skbinfo }), ...addEntries('s', entries)];
        const messages = decodeMessages(
          encodeBatch(
            requests.map((request) => ({ ...request, type: LIST })),
            1,
          ),
        );
        if (!messages.ok) throw messages.error;
        const sets = collectSets(messages.value);
        if (!sets.ok) throw sets.error;
        expect(sets.value).toHaveLength(1);
        expect(sets.value[0]).toMatchObject({ name: 's', type: 'bitmap:port', range, skbinfo });
        expect(sets.value[0]?.entries).toEqual(entries);
      }),
      { numRuns: 50 },
    );
  });

  it('batches', () => {
    const request = fc.record({ type: uint(16), flags: uint(16), payload: fc.uint8Array({ maxLength: 50 }) });
    fc.assert(
      fc.property(fc.array(request, { maxLength: 20 }), uint(32), (requests, sequence) => {
        const bytes = encodeBatch(requests, sequence, { ack: 'none', portId: 9 });
        expect(bytes).toHaveLength(requests.reduce((sum, one) => sum + encodedLength(one), 0));
        const messages = decodeMessages(bytes);
        if (!messages.ok) throw messages.error;
        expect(messages.value.map(({ type, flags, payload }) => ({ type, flags, payload: [...payload] }))).toEqual(
          requests.map(({ type, flags, payload }) => ({ type, flags, payload: [...payload] })),
        );
        expect(messages.value.map((message) => message.sequence)).toEqual(requests.map((_, i) => (sequence + i) >>> 0));
        const acks = decodeMessages(
          encodeBatch(
            requests.map((one) => ({ ...one, flags: 0 })),
            1,
          ),
        );
        if (!acks.ok) throw acks.error;
        expect(acks.value.map(({ flags }) => flags)).toEqual(
          requests.map((_, i) => (i === requests.length - 1 ? 4 : 0)),
        );
      }),
    );
  });

  it('IP addresses, in the canonical text of RFC 5952 (URL is the oracle)', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.constant(0), uint(16)), { minLength: 8, maxLength: 8 }), (words) => {
        const bytes = Uint8Array.from(words.flatMap((word) => [word >> 8, word & 0xff]));
        const text = formatAddress(bytes);
        expect(parseAddress(text)).toEqual(bytes);
        const url = (address: string) => new URL(`http://[${address}]/`).hostname.slice(1, -1);
        if (!text.includes('.')) expect(text).toBe(url(text));
        expect(url(text)).toBe(url(words.map((word) => word.toString(16)).join(':')));
      }),
    );
  });
});
