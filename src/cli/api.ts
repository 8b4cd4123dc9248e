import { accessSync, constants } from 'node:fs';
import { MeshError } from '../base/errors.ts';
import type { CallSettings, ControlConnection, LocalConnection } from '../rpc/client.ts';

/** What meshctl can ask a meshd. Failures are MeshErrors that say what to do next. */
export interface Api {
  control: ControlConnection;
  local: LocalConnection;
  close(): void;
}

export const DEFAULT_HOST = 'unix:///run/meshd/meshd.sock';

/** Milliseconds for one answer; a plan asks every node, and slow machines are slow. */
const REQUEST_TIMEOUT = 60_000;

/** Connects to the meshd behind a `unix://` address; nothing is sent yet, but the socket has to be there. */
export async function connect(host: string): Promise<Api> {
  const path = /^(?:unix:(?:\/\/)?)?(\/.+)$/.exec(host)?.[1];
  if (path === undefined) {
    throw new MeshError('invalid', `${host} is not an address of meshd; give one like ${DEFAULT_HOST}`);
  }
  checkSocket(path);
  const { connectControl, connectLocal } = await import('../rpc/client.ts');
  const local = connectLocal(path);
  const control = connectControl(path);
  return {
    local: withErrorMessages(local, async (error) => explainError(error)),
    control: withErrorMessages(control, (error) => controlError(error, local)),
    close() {
      local.close();
      control.close();
    },
  };
}

/** A socket that is missing or closed to us is told apart before gRPC makes one "unavailable" of both. */
function checkSocket(path: string): void {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EACCES' || code === 'EPERM') {
      throw new MeshError('permission', `no permission to use ${path}; run meshctl as root, or with sudo`);
    }
    const where = 'See `systemctl status meshd`, or give its address with --host';
    throw new MeshError('unavailable', `cannot reach meshd at ${path}: no such socket. Is meshd running? ${where}`);
  }
}

/** The same calls, with our patience, and with failures in words for a person at the command line. */
function withErrorMessages<C extends object>(calls: C, explain: (error: unknown) => Promise<unknown>): C {
  type Call = (request: unknown, settings?: CallSettings) => Promise<unknown> | AsyncIterable<unknown>;
  const wrapped: Record<string, unknown> = {};
  for (const [name, call] of Object.entries(calls) as [string, Call][]) {
    wrapped[name] = (request: unknown, settings: CallSettings = {}) => {
      // A deadline is right for an answer, not for a watch.
      if (name === 'watch') return watchWithErrorMessages(call(request, settings) as AsyncIterable<unknown>, explain);
      const response = call(request, { timeout: REQUEST_TIMEOUT, ...settings }) as Promise<unknown>;
      return name === 'close' ? response : response.catch(async (error) => Promise.reject(await explain(error)));
    };
  }
  return wrapped as C;
}

async function* watchWithErrorMessages(events: AsyncIterable<unknown>, explain: (error: unknown) => Promise<unknown>) {
  try {
    yield* events;
  } catch (error) {
    throw await explain(error);
  }
}

/** Words of meshd itself (without a cause) are meant for people; words of the transport get the next step added. */
function explainError(error: unknown): unknown {
  if (!(error instanceof MeshError) || error.cause === undefined || error.code !== 'unavailable') return error;
  return new MeshError('unavailable', `${error.message}; see \`systemctl status meshd\``, { cause: error.cause });
}

/** Only managers serve Control: whoever asks another node learns where to ask. */
async function controlError(error: unknown, local: LocalConnection): Promise<unknown> {
  if (!(error instanceof MeshError) || error.code !== 'unsupported' || error.cause === undefined)
    return explainError(error);
  try {
    const { nodeName, manager } = await local.info({});
    const where = manager === '' ? 'on a manager' : `on the manager (${manager})`;
    return new MeshError('unsupported', `this node (${nodeName}) is not a manager; run this ${where}`);
  } catch {
    return error;
  }
}
