import { backoff } from '../../base/backoff.ts';
import type { Clock } from '../../base/clock.ts';
import { MeshError, messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { DispatchConnection } from '../../rpc/dispatch-client.ts';
import type { AgentMessage, Hello, ManagerMessage, Welcome } from '../../rpc/messages.ts';

/** Pauses between attempts, ms; the real one is between half of it and all of it, so that nodes do not come in step. */
const RETRY_DELAY = { base: 100, limit: 5_000 };
/** A manager that has not said Welcome by then is not there, ms. */
const WELCOME_TIMEOUT = 5_000;

/** Messages that may wait for a slow manager before periodic ones are left out. */
const MAX_QUEUED = 16;

type Outgoing = NonNullable<AgentMessage['message']>;
type Incoming = NonNullable<ManagerMessage['message']>;

export interface SessionOptions {
  /** Managers, `host:port` or the path of a unix socket; tried in turn. */
  addresses: readonly string[];
  connect(address: string): DispatchConnection;
  hello(): Hello;
  /** Throws to refuse this manager. */
  onWelcome(welcome: Welcome): Promise<void>;
  /** Everything after Welcome, in order. Throws to break the session off; the next one begins with a snapshot. */
  onMessage(message: Exclude<Incoming, { case: 'welcome' }>): void;
  /** Once every manager was tried in vain, and at each later failure. */
  onUnreachable(reason: string): void;
  clock: Clock;
  /** 0 up to 1, for jitter. */
  random(): number;
  log: Log;
}

export interface Session {
  /** Dropped while there is no manager: what counts is said again after Welcome. */
  send(message: Outgoing, probeId?: number): void;
  /** The manager that has welcomed us. */
  manager(): string | undefined;
  /** Breaks the present stream off, if there is one. */
  restart(reason: string): void;
  stop(): void;
}

/** Keeps one stream to one manager open for as long as it runs. */
export function openSession(options: SessionOptions): Session {
  const { addresses, clock, log } = options;
  let stopped = false;
  let attempt = 0;
  let lastReason: string | undefined;
  let current: Stream | undefined;
  let cancelRetry: (() => void) | undefined;

  async function connectOnce(): Promise<void> {
    const address = addresses[attempt % addresses.length]!;
    const stream = openStream(options, address, () => {
      attempt = 0;
      lastReason = undefined;
    });
    current = stream;
    const reason = await stream.run();
    if (current === stream) current = undefined;
    if (stopped) return;
    attempt += 1;
    // An hour without managers is one line of news, not a thousand.
    log[reason === lastReason ? 'debug' : 'warn'](
      { manager: address, attempt },
      `no session with the manager: ${reason}`,
    );
    lastReason = reason;
    if (attempt >= addresses.length) options.onUnreachable(`${address}: ${reason}`);
    // One pause for each round through all managers.
    const limit = backoff(Math.floor((attempt - 1) / addresses.length), RETRY_DELAY.base, RETRY_DELAY.limit);
    cancelRetry = clock.after(limit * (0.5 + options.random() / 2), () => void connectOnce());
  }
  void connectOnce();

  return {
    send: (message, probeId = 0) => current?.send(message, probeId),
    manager: () => (current?.welcomed() ? current.address : undefined),
    restart: (reason) => current?.close(reason),
    stop() {
      stopped = true;
      cancelRetry?.();
      current?.close('the agent stops');
    },
  };
}

interface Stream {
  address: string;
  /** Resolves with the reason why it ended; never rejects. */
  run(): Promise<string>;
  welcomed(): boolean;
  send(message: Outgoing, probeId: number): void;
  close(reason: string): void;
}

function openStream(options: SessionOptions, address: string, onWelcomed: () => void): Stream {
  const { clock } = options;
  const connection = options.connect(address);
  const duplex = connection.session();
  let welcomed = false;
  let reason: string | undefined;
  let cancelTimer = () => {};

  let sending: Promise<unknown> = Promise.resolve();
  let queued = 0;

  const send = (message: Outgoing, probeId: number) => {
    // What is measured again soon is not worth a queue.
    if (queued > MAX_QUEUED && message.case === 'connections') return;
    queued += 1;
    sending = sending
      .then(() => duplex.send({ message, probeId }))
      .finally(() => {
        queued -= 1;
      });
  };
  const close = (cause: string) => {
    reason ??= cause;
    // An error, for an end alone leaves the other side free to go on sending.
    duplex.end(new MeshError('unavailable', cause));
  };
  const scheduleHeartbeat = (period: number) => {
    cancelTimer = clock.after(period, () => {
      send({ case: 'heartbeat', value: {} }, 0);
      scheduleHeartbeat(period);
    });
  };

  async function read(): Promise<void> {
    send({ case: 'hello', value: options.hello() }, 0);
    cancelTimer = clock.after(WELCOME_TIMEOUT, () => close(`no answer within ${WELCOME_TIMEOUT / 1000} s`));
    for await (const { message } of duplex.received) {
      if (message === undefined) continue; // of a newer manager
      if (message.case === 'welcome') {
        cancelTimer();
        await options.onWelcome(message.value);
        welcomed = true;
        onWelcomed();
        scheduleHeartbeat(Math.max(1, message.value.heartbeatSeconds) * 1000);
      } else if (!welcomed) throw new MeshError('invalid', `the manager sent a ${message.case} before its welcome`);
      else options.onMessage(message);
    }
  }

  return {
    address,
    async run() {
      try {
        await read();
        return reason ?? 'the manager ended the session';
      } catch (thrown) {
        return reason ?? messageOf(thrown);
      } finally {
        cancelTimer();
        welcomed = false;
        close(reason ?? 'over');
        connection.close();
      }
    },
    welcomed: () => welcomed,
    send,
    close,
  };
}
