import { describe, expect, it } from 'vitest';
import { MeshError } from '../../base/errors.ts';
import { type NetlinkMessage, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR } from '../../netlink/message.ts';
import { createBatchExchange, createDumpExchange, kernelErrorCode } from './exchange.ts';

function message(type: number, sequence: number, error?: number, flags = 0): NetlinkMessage {
  const payload = new Uint8Array(20);
  if (error !== undefined) new DataView(payload.buffer).setInt32(0, -error, true);
  return { type, flags, sequence, portId: 1, payload };
}

describe('a batch', () => {
  it('is settled by the answer to its last request, with failures where they belong', () => {
    const exchange = createBatchExchange(10, 3);
    expect(exchange.accept(message(NLMSG_ERROR, 11, 17))).toBeUndefined();
    expect(exchange.accept(message(NLMSG_ERROR, 12, 0))).toEqual({
      ok: true,
      value: [
        { ok: true, replies: [] },
        { ok: false, code: 'EEXIST' },
        { ok: true, replies: [] },
      ],
    });
  });

  it('assigns replies to their request, and ignores all others', () => {
    const exchange = createBatchExchange(10, 2);
    const reply = message(16, 10);
    exchange.accept(reply);
    exchange.accept(message(16, 9));
    exchange.accept(message(16, 0));
    exchange.accept(message(NLMSG_ERROR, 99, 1));
    expect(exchange.accept(message(NLMSG_ERROR, 11, 0))).toEqual({
      ok: true,
      value: [
        { ok: true, replies: [reply] },
        { ok: true, replies: [] },
      ],
    });
  });

  it('leaves the outcome of the others open after lost answers, and keeps reported failures', () => {
    for (const lose of ['overrun', 'broken'] as const) {
      const exchange = createBatchExchange(1, 2);
      exchange.accept(message(NLMSG_ERROR, 1, 1));
      const settled = lose === 'overrun' ? exchange.overrun() : exchange.fail(new MeshError('kernel', 'closed'));
      expect(settled).toMatchObject({ ok: true, value: [{ code: 'EPERM' }, { ok: false, outcomeUnknown: true }] });
      expect(settled).not.toMatchObject({ value: [{ outcomeUnknown: true }, {}] });
    }
  });
});

describe('a dump', () => {
  it('collects its own messages until the end', () => {
    const exchange = createDumpExchange(5);
    const [first, second] = [message(16, 5), message(16, 5)];
    for (const one of [first, message(16, 4), second]) expect(exchange.accept(one)).toBeUndefined();
    expect(exchange.accept(message(NLMSG_DONE, 5, 0))).toEqual({
      ok: true,
      value: { messages: [first, second], consistent: true },
    });
  });

  it('must be repeated if any message, including the last, is flagged so, or if messages were dropped', () => {
    const interrupted = createDumpExchange(1);
    interrupted.accept(message(16, 1, undefined, NLM_F_DUMP_INTR));
    expect(interrupted.accept(message(NLMSG_DONE, 1, 0))).toMatchObject({ value: { consistent: false } });
    const atEnd = createDumpExchange(1).accept(message(NLMSG_DONE, 1, 0, NLM_F_DUMP_INTR));
    expect(atEnd).toMatchObject({ value: { consistent: false } });
    const dropped = createDumpExchange(1);
    expect(dropped.overrun()).toBeUndefined();
    expect(dropped.accept(message(NLMSG_DONE, 1, 0))).toMatchObject({ value: { consistent: false } });
  });

  it('fails with the name of the error', () => {
    for (const type of [NLMSG_ERROR, NLMSG_DONE]) {
      const result = createDumpExchange(1).accept(message(type, 1, 19));
      expect(result?.ok).toBe(false);
      if (result && !result.ok) expect(kernelErrorCode(result.error)).toBe('ENODEV');
    }
  });
});
