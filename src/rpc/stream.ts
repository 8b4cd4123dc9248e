import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import type { MeshError } from '../base/errors.ts';

/** One side of a two-way stream. */
export interface Duplex<In, Out> {
  /** What the other side sends; ends when it ends, throws MeshError when the stream breaks. Read it once. */
  received: AsyncIterable<In>;
  /** Sends one message; resolves when the transport takes more, at once if the stream is over. */
  send(message: Out): Promise<void>;
  /** Says that no more will be sent, or breaks the stream with an error the other side gets to see. */
  end(error?: MeshError): void;
  /** Aborted when the stream is over, whoever ended it. */
  closed: AbortSignal;
  /** The other side, as far as the transport tells. */
  peer: string;
}

/** Messages of a readable with backpressure; errors become ours. */
export async function* messages<T>(stream: Readable, translate: (thrown: unknown) => MeshError): AsyncGenerator<T> {
  try {
    // A reader that stops reading must not take the sending half of the stream down with it.
    for await (const message of stream.iterator({ destroyOnReturn: false })) yield message as T;
  } catch (thrown) {
    throw translate(thrown);
  }
}

/** Writes and waits while the transport is full; gives up waiting when the stream closes. */
export async function write(stream: Writable, message: unknown, closed: AbortSignal): Promise<void> {
  if (closed.aborted || stream.writableEnded || stream.destroyed) return;
  if (stream.write(message)) return;
  try {
    await once(stream, 'drain', { signal: closed });
  } catch {
    // The stream is over; its reader gets to know why.
  }
}
