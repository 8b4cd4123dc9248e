import type { Log } from '../../base/log.ts';
import type { AgentReport } from './messages.ts';
import { currentAddress, initialSession, nextSession, type SessionEffect, type SessionEvent } from './session-state.ts';
import { openSessionStream, type SessionStream, type SessionStreamOptions } from './session-stream.ts';

export interface SessionOptions extends SessionStreamOptions {
  /** Managers, `host:port` or the path of a unix socket; tried in turn. */
  addresses: readonly string[];
  /** After every manager was tried without success, and at each later failure. */
  onUnreachable(reason: string): void;
  /** 0 up to 1, for jitter. */
  random(): number;
  log: Log;
}

/** Keeps one stream to one manager open, from `start` to `stop`. */
export interface Session {
  start(): void;
  /** Dropped while there is no manager: every session begins with a full report. */
  send(report: AgentReport): void;
  /** Address of the manager of the established session. */
  manager(): string | undefined;
  stop(): void;
}

export function createSession(options: SessionOptions): Session {
  const { clock, log } = options;
  let state = initialSession(options.addresses);
  let stream: SessionStream | undefined;
  let cancelRetry = () => {};

  function dispatch(event: SessionEvent): void {
    const next = nextSession(state, event);
    state = next.state;
    next.effects.forEach(execute);
  }

  function execute(effect: SessionEffect): void {
    switch (effect.kind) {
      case 'connect':
        void runStream(effect.address);
        return;
      case 'retryAfter':
        cancelRetry = clock.after(effect.delay, () => dispatch({ kind: 'retry' }));
        return;
      case 'logFailure': {
        const { address: manager, attempt, reason, repeated } = effect;
        log[repeated ? 'debug' : 'warn']({ manager, attempt }, `no session with the manager: ${reason}`);
        return;
      }
      case 'unreachable':
        options.onUnreachable(effect.reason);
        return;
      case 'disconnect':
        cancelRetry();
        stream?.close('the agent stops');
    }
  }

  async function runStream(address: string): Promise<void> {
    const opened = openSessionStream(options, address, () => dispatch({ kind: 'welcomed' }));
    stream = opened;
    const reason = await opened.run();
    stream = undefined;
    dispatch({ kind: 'ended', reason, jitter: options.random() });
  }

  return {
    start: () => dispatch({ kind: 'start' }),
    send: (report) => stream?.send(report),
    manager: () => (state.phase === 'established' ? currentAddress(state) : undefined),
    stop: () => dispatch({ kind: 'stop' }),
  };
}
