import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { goldenOf, readGoldens } from '../../test/goldens/read.ts';
import { Attributes } from './attributes.ts';
import { decodeFlow, deleteFlow, dumpFlows, type Flow } from './conntrack.ts';
import { decodeMessages, NLMSG_DONE } from './message.ts';

const goldens = readGoldens('conntrack');
/** Entries that the conntrack tool received for a command. */
function listed(command: string): Flow[] {
  return goldenOf(goldens, command)
    .received.filter(({ type }) => type === 0x100)
    .map((message) => {
      const flow = decodeFlow(message);
      if (!flow.ok) throw flow.error;
      return flow.value;
    });
}

describe('conntrack', () => {
  it('reads what the tool reads', () => {
    const flows = listed('conntrack -L -f ipv4 -p udp').sort((a, b) => a.original.sourcePort - b.original.sourcePort);
    expect(flows.map(({ name: _, ...flow }) => flow)).toEqual([
      {
        family: 'inet',
        protocol: 17,
        original: { source: '192.0.2.50', destination: '192.0.2.1', sourcePort: 1000, destinationPort: 53 },
        reply: { source: '192.0.2.1', destination: '192.0.2.50', sourcePort: 53, destinationPort: 1000 },
        zoned: false,
      },
      {
        family: 'inet',
        protocol: 17,
        original: { source: '192.0.2.51', destination: '192.0.2.1', sourcePort: 1001, destinationPort: 53 },
        reply: { source: '10.252.1.2', destination: '192.0.2.51', sourcePort: 53, destinationPort: 1001 },
        zoned: false,
      },
      expect.objectContaining({ zoned: true }),
    ]);
    expect(listed('conntrack -L -f ipv6 -p udp')).toMatchObject([
      { family: 'inet6', original: { source: 'fd30::50', destination: 'fd30::1' }, zoned: false },
    ]);
  });

  it('identifies an entry by its tuple, as the tool does, and by its id', () => {
    const deletion = goldenOf(goldens, 'conntrack -D -f ipv4 -p udp -s 192.0.2.50 --orig-port-dst 53');
    const [flow] = listed('conntrack -L -f ipv4 -p udp').filter(({ original }) => original.source === '192.0.2.50');
    const theirs = deletion.sent.find(({ type }) => type === 0x102)!;
    const ours = deleteFlow(flow!);
    expect(ours.type).toBe(theirs.type);
    expect(ours.payload.subarray(0, 4)).toEqual(theirs.payload.subarray(0, 4));
    const tuple = (payload: Uint8Array) => Buffer.from(new Attributes(payload, 4).bytes(1)!).toString('hex');
    expect(tuple(ours.payload)).toBe(tuple(theirs.payload));
    expect(new Attributes(ours.payload, 4).bytes(12)).toEqual(flow!.name.id);
  });

  it('requests one port of a protocol, or all ports', () => {
    const hex = (port?: number) => Buffer.from(dumpFlows('inet', 'udp', { port }).payload).toString('hex');
    // nfgenmsg; CTA_TUPLE_ORIG { CTA_TUPLE_PROTO { NUM 17, DST_PORT 53 } }; CTA_FILTER { ORIG_FLAGS, REPLY_FLAGS }
    expect(hex(53)).toBe(
      '02000000' +
        '18000180' +
        '14000280' +
        '0500010011000000' +
        '0600030000350000' +
        '14001980' +
        '0800010028000000' +
        '0800020000000000',
    );
    expect(hex()).toBe(
      '02000000' + '10000180' + '0c000280' + '0500010011000000' + '14001980' + '0800010008000000' + '0800020000000000',
    );
  });

  it('requests entries by whether their destination was translated, as the tool requests a status', () => {
    const theirs = goldenOf(goldens, 'conntrack -L -f ipv4 -p udp -u SEEN_REPLY').sent.find(
      ({ type }) => type === 0x101,
    )!;
    const status = (payload: Uint8Array) => {
      const attributes = new Attributes(payload, 4);
      return { status: attributes.be32(3), mask: attributes.be32(26) };
    };
    // IPS_SEEN_REPLY is 2, IPS_DST_NAT 32.
    expect(status(theirs.payload)).toEqual({ status: 2, mask: 2 });
    expect(status(dumpFlows('inet', 'udp', { translated: true }).payload)).toEqual({ status: 32, mask: 32 });
    expect(status(dumpFlows('inet', 'udp', { translated: false }).payload)).toEqual({ status: 0, mask: 32 });
    expect(status(dumpFlows('inet', 'udp').payload)).toEqual({ status: undefined, mask: undefined });
  });

  it('rejects other messages', () => {
    const datagrams = goldens.flatMap((golden) => golden.datagrams);
    fc.assert(
      fc.property(fc.constantFrom(...datagrams), fc.nat(), fc.nat(255), (datagram, at, value) => {
        const bytes = Uint8Array.from(datagram);
        bytes[at % bytes.length] = value;
        const messages = decodeMessages(bytes);
        for (const message of messages.ok ? messages.value : []) {
          if (message.type === NLMSG_DONE) continue;
          const flow = decodeFlow(message);
          if (flow.ok) expect(deleteFlow(flow.value).payload.length).toBeGreaterThan(8);
        }
      }),
    );
  });
});
