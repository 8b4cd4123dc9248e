import type { Writable } from 'node:stream';
import { MeshError } from '../base/errors.ts';
import { SEND_QUEUE } from './limits.ts';

/** Sends bytes in order; bounded, for a peer that does not read must not cost memory. */
export interface SendQueue {
  /** Resolves when the transport took the message, or the stream is over. */
  send(message: Uint8Array): Promise<void>;
  /** Calls `end` once everything before it was taken by the transport. */
  finish(end: () => void): void;
}

/**
 * `overflow` is called once, with the reason, when a peer reads too slowly: more messages or bytes wait than `limits`
 * allow, or nothing was taken for a whole timeout. `closed` ends all waiting.
 */
export function createSendQueue(
  stream: Writable,
  closed: AbortSignal,
  overflow: (reason: MeshError) => void,
  limits: typeof SEND_QUEUE = SEND_QUEUE,
): SendQueue {
  const waiting: { message: Uint8Array; done: () => void }[] = [];
  let bytes = 0;
  let isBlocked = false;
  let finishing: (() => void) | undefined;
  let timer: NodeJS.Timeout | undefined;

  const fail = (what: string) =>
    overflow(new MeshError('exhausted', `the peer reads too slowly: ${what}`, { retry: true }));

  function drained(): void {
    clearTimeout(timer);
    isBlocked = false;
    pump();
  }

  function pump(): void {
    while (!isBlocked && waiting.length > 0) {
      const { message, done } = waiting.shift()!;
      bytes -= message.length;
      if (!stream.write(message)) {
        isBlocked = true;
        timer = setTimeout(() => fail(`it took nothing for ${limits.timeout / 1_000} s`), limits.timeout);
        stream.once('drain', drained);
      }
      done();
    }
    if (waiting.length === 0) finishing?.();
  }

  function over(): void {
    clearTimeout(timer);
    stream.off('drain', drained);
    for (const { done } of waiting.splice(0)) done();
  }
  if (closed.aborted) over();
  else closed.addEventListener('abort', over, { once: true });

  return {
    send(message) {
      if (closed.aborted || finishing !== undefined || stream.writableEnded || stream.destroyed)
        return Promise.resolve();
      if (waiting.length > 0 && (waiting.length >= limits.messages || bytes + message.length > limits.bytes)) {
        fail(`${waiting.length} messages with ${bytes} bytes wait`);
        return Promise.resolve();
      }
      bytes += message.length;
      return new Promise((done) => {
        waiting.push({ message, done });
        pump();
      });
    },
    finish(end) {
      finishing ??= end;
      if (waiting.length === 0) end();
    },
  };
}
