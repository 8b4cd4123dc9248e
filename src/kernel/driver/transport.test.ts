import { describe, expect, it } from 'vitest';
import { encodedLength, type NetlinkRequest } from '../../netlink/message.ts';
import { splitIntoChunks, toRequestFailure } from './transport.ts';

const request = (length: number): NetlinkRequest => ({ type: 1, flags: 0, payload: new Uint8Array(length) });

describe('a batch', () => {
  it('is cut into sends of bounded size and number, in order', () => {
    for (const requests of [
      Array.from({ length: 1200 }, (_, i) => request(i % 50)),
      Array.from({ length: 100 }, () => request(9000)),
      [request(200_000), request(1), request(1)],
    ]) {
      const chunks = splitIntoChunks(requests);
      expect(chunks.flat()).toEqual(requests);
      for (const chunk of chunks) {
        const bytes = chunk.reduce((sum, one) => sum + encodedLength(one), 0);
        expect(chunk.length === 1 || bytes <= 64 * 1024).toBe(true);
        expect(chunk.length).toBeLessThanOrEqual(500);
      }
    }
    expect(splitIntoChunks([])).toEqual([]);
  });
});

describe('an error on the way', () => {
  it('is the answer when it is of the system, and leaves doubt when it is not', () => {
    const system = Object.assign(new Error('EPERM: operation not permitted'), { code: 'EPERM', syscall: 'sendmsg' });
    expect(toRequestFailure(system)).toEqual({ ok: false, code: 'EPERM', text: 'EPERM: operation not permitted' });
    expect(toRequestFailure(new Error('?'))).toMatchObject({ outcomeUnknown: true });
  });
});
