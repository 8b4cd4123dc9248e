import type { Clock } from '../../base/clock.ts';
import { MeshError, messageOf } from '../../base/errors.ts';
import type { DispatchConnection } from '../../rpc/dispatch-client.ts';
import type { AgentReport, AssignmentMessage, NodeIntroduction, WelcomeMessage } from './messages.ts';
import { messageFromWire, reportToWire } from './wire.ts';

/** For the manager's Welcome, ms. */
const WELCOME_TIMEOUT = 5_000;
/** Reports that may wait for a slow manager before periodic ones are dropped. */
const MAX_QUEUED = 16;
/** Reports that may wait at all: beyond, the manager does not read, and the session is closed. */
const MAX_PENDING = 4_096;

export interface SessionStreamOptions {
  connect(address: string): DispatchConnection;
  introduce(): NodeIntroduction;
  /** Throws to reject this manager. */
  onWelcome(welcome: WelcomeMessage): Promise<void>;
  /** Everything after Welcome, in order. Throws to end the session; the next one begins with a snapshot. */
  onMessage(message: AssignmentMessage): void;
  clock: Clock;
}

/** One stream to one manager, from hello to its end. */
export interface SessionStream {
  /** Resolves with the reason why it ended; never rejects. */
  run(): Promise<string>;
  send(report: AgentReport): void;
  close(reason: string): void;
}

export function openSessionStream(
  options: SessionStreamOptions,
  address: string,
  onWelcomed: () => void,
): SessionStream {
  const { clock } = options;
  const connection = options.connect(address);
  const duplex = connection.session();
  let welcomed = false;
  let closeReason: string | undefined;
  let cancelTimer = () => {};
  let sending: Promise<unknown> = Promise.resolve();
  let pending = 0;

  function send(report: AgentReport): void {
    // Connection counts are measured again soon.
    if (closeReason !== undefined || (pending > MAX_QUEUED && report.kind === 'connections')) return;
    if (pending >= MAX_PENDING) {
      close(`the manager does not read: ${pending} reports are waiting`);
      return;
    }
    pending += 1;
    sending = sending
      .then(() => duplex.send(reportToWire(report)))
      .finally(() => {
        pending -= 1;
      });
    sending.catch((thrown) => close(messageOf(thrown)));
  }

  function close(reason: string): void {
    closeReason ??= reason;
    // With an error: a plain end would leave the manager free to go on sending.
    duplex.end(new MeshError('unavailable', reason));
  }

  function scheduleHeartbeat(period: number): void {
    cancelTimer = clock.after(period, () => {
      send({ kind: 'heartbeat' });
      scheduleHeartbeat(period);
    });
  }

  async function read(): Promise<void> {
    send({ kind: 'hello', node: options.introduce() });
    cancelTimer = clock.after(WELCOME_TIMEOUT, () => close(`no welcome within ${WELCOME_TIMEOUT / 1000} s`));
    for await (const received of duplex.received) {
      const message = messageFromWire(received);
      if (message === undefined) continue; // of a newer manager
      if (message.kind === 'welcome') {
        cancelTimer();
        await options.onWelcome(message);
        welcomed = true;
        onWelcomed();
        scheduleHeartbeat(Math.max(1, message.heartbeatSeconds) * 1000);
      } else if (!welcomed) throw new MeshError('invalid', `the manager sent a ${message.kind} before its welcome`);
      else options.onMessage(message);
    }
  }

  return {
    async run() {
      try {
        await read();
        return closeReason ?? 'the manager ended the session';
      } catch (thrown) {
        return closeReason ?? messageOf(thrown);
      } finally {
        cancelTimer();
        close(closeReason ?? 'the session is over');
        connection.close();
      }
    },
    send,
    close,
  };
}
