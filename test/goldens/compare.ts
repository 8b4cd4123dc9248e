import { expect, it } from 'vitest';
import { Attributes, AttributeWriter } from '../../src/netlink/attributes.ts';
import { type NetlinkMessage, type NetlinkRequest, NLM_F_ACK } from '../../src/netlink/message.ts';
import { goldenOf, readGoldens } from './read.ts';

export type Payload = Uint8Array;

/** Payload with the attributes after `header` bytes sorted by type and changed by `edit` (null removes one). */
export function normalize(
  payload: Payload,
  header: number,
  edit: (type: number, value: Payload) => Payload | null = (_type, value) => value,
): Payload {
  const writer = new AttributeWriter().raw(payload.subarray(0, header));
  const attributes = new Attributes(payload, header).list().sort((a, b) => a.type - b.type);
  for (const { type, bytes } of attributes) {
    const value = edit(type, bytes);
    if (value !== null) writer.put(type, value);
  }
  return writer.finish();
}

/** Sequence numbers and port ids always differ; tools request an ACK for every message, meshd for the last of a batch. */
export function expectSameRequest(
  sent: NetlinkMessage | undefined,
  request: NetlinkRequest,
  normalise = (payload: Payload) => payload,
): void {
  expect(sent).toBeDefined();
  expect(request.type).toBe(sent!.type);
  expect((request.flags | NLM_F_ACK).toString(16)).toBe((sent!.flags | NLM_F_ACK).toString(16));
  const hex = (payload: Payload) => Buffer.from(normalise(payload)).toString('hex');
  expect(hex(request.payload)).toBe(hex(sent!.payload));
}

/** Command, our request, normalisation where the tool's bytes legitimately differ. Messages are found by type; the last one counts. */
export type Case = [string, NetlinkRequest, ((payload: Payload) => Payload)?];

export function compare(name: Parameters<typeof readGoldens>[0], cases: Case[]): void {
  const goldens = readGoldens(name);
  it.each(cases)('%s', (command, request, normalise) => {
    // Feature probes have sequence 0; a dump is distinguished from a lookup of the same type by its flags.
    const dump = (flags: number) => (flags & 0x300) === 0x300;
    const sent = goldenOf(goldens, command).sent.filter(
      (message) =>
        message.type === request.type && message.sequence !== 0 && dump(message.flags) === dump(request.flags),
    );
    expectSameRequest(sent.at(-1), request, normalise);
  });
}
