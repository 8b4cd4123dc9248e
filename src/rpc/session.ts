import type { Readable } from 'node:stream';
import type { MeshError } from '../base/errors.ts';
import type { Caller } from '../identity/caller.ts';

/** One side of a two-way stream. */
export interface Duplex<In, Out> {
  /** What the other side sends, checked; ends when it ends, throws MeshError when the stream breaks. Read it once. */
  received: AsyncIterable<In>;
  /** Sends one message; resolves when the transport took it, at once if the stream is over. */
  send(message: Out): Promise<void>;
  /** Declares that no more will be sent, or breaks the stream with an error that the other side receives. */
  end(error?: MeshError): void;
  /** Aborted when either side has ended the stream. */
  closed: AbortSignal;
  /** The other side's address, as far as the transport knows. */
  peer: string;
}

/** A session as a server has it. */
export interface ServerSession<In, Out> extends Duplex<In, Out> {
  caller: Caller;
}

/**
 * Messages of a readable with backpressure; errors become ours. Ends with the stream or with `over`, whichever is first:
 * a reader must not be left waiting on a stream whose status was sent. Leaving the loop does not destroy the stream, so
 * that its sending half lives on.
 */
export function messages<T>(
  stream: Readable,
  decode: (bytes: Uint8Array) => T,
  translate: (thrown: unknown) => Error,
  over?: AbortSignal,
): AsyncGenerator<T> {
  let wake = () => {};
  let ended = false;
  let failure: { thrown: unknown } | undefined;
  const onReadable = () => wake();
  const onEnd = () => {
    ended = true;
    wake();
  };
  const onError = (thrown: unknown) => {
    failure ??= { thrown };
    wake();
  };
  stream.on('readable', onReadable).on('end', onEnd).on('close', onEnd).on('error', onError);
  over?.addEventListener('abort', onEnd, { once: true });
  async function* read(): AsyncGenerator<T> {
    try {
      for (;;) {
        const message = stream.read();
        if (message !== null) yield decode(message);
        else if (over?.aborted) return;
        else if (failure !== undefined) throw translate(failure.thrown);
        else if (ended || stream.destroyed) return;
        else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      stream.off('readable', onReadable).off('end', onEnd).off('close', onEnd);
      over?.removeEventListener('abort', onEnd); // the error listener stays: a late error has no other reader
    }
  }
  return read();
}
