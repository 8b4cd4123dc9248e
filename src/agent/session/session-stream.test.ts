import { describe, expect, it } from 'vitest';
import { systemClock } from '../../base/clock.ts';
import type { MeshError } from '../../base/errors.ts';
import type { DispatchConnection } from '../../rpc/dispatch-client.ts';
import { openSessionStream, type SessionStreamOptions } from './session-stream.ts';

/** A manager that accepts the stream and never reads or sends. */
function silentManager() {
  const sent: unknown[] = [];
  let endReason: string | undefined;
  let finish = () => {};
  const ended = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const received: AsyncIterable<never> = {
    [Symbol.asyncIterator]: () => ({ next: () => ended.then(() => ({ done: true, value: undefined })) }),
  };
  const connection: DispatchConnection = {
    session: () => ({
      received,
      send(message) {
        sent.push(message);
        return new Promise(() => {});
      },
      end(error?: MeshError) {
        endReason ??= error?.message;
        finish();
      },
      closed: new AbortController().signal,
      peer: 'manager',
    }),
    close: () => {},
  };
  return { connection, sent, endReason: () => endReason };
}

const options = (connection: DispatchConnection): SessionStreamOptions => ({
  connect: () => connection,
  introduce: () => ({
    name: 'node1',
    nodeId: '',
    underlay: '192.0.2.1',
    labels: {},
    version: '0',
    kernelRelease: '6.1.0',
    role: 'worker',
    tasks: [],
  }),
  onWelcome: async () => {},
  onMessage: () => {},
  clock: systemClock,
});

describe('the send queue of a session', () => {
  it('is bounded: a manager that does not read is disconnected', async () => {
    const manager = silentManager();
    const stream = openSessionStream(options(manager.connection), 'manager', () => {});
    const over = stream.run();
    for (let count = 0; count < 5_000; count++) stream.send({ kind: 'heartbeat' });
    expect(await over).toMatch(/^the manager does not read: \d+ reports are waiting$/);
    expect(manager.endReason()).toMatch(/does not read/);
  });

  it('drops connection counts first, which are measured again', async () => {
    const manager = silentManager();
    const stream = openSessionStream(options(manager.connection), 'manager', () => {});
    const over = stream.run();
    for (let count = 0; count < 5_000; count++) stream.send({ kind: 'connections', revision: 1, endpoints: [] });
    stream.close('test over');
    expect(await over).toBe('test over');
  });
});
