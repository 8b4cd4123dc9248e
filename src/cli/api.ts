import { accessSync, constants } from 'node:fs';
import { MeshError } from '../base/errors.ts';
import type { CallSettings, ControlConnection, LocalConnection } from '../rpc/client.ts';

/** The calls of meshctl to a meshd. Failures are MeshErrors whose messages have a remedy. */
export interface Api {
  control: ControlConnection;
  local: LocalConnection;
  close(): void;
}

export const DEFAULT_HOST = 'unix:///run/meshd/meshd.sock';

/** Milliseconds for one answer; a plan waits for every node. */
const REQUEST_TIMEOUT = 60_000;

/** Opens connections to the meshd at a `unix://` address. Sends nothing yet, but the socket has to exist. */
export async function connect(host: string): Promise<Api> {
  const path = /^(?:unix:(?:\/\/)?)?(\/.+)$/.exec(host)?.[1];
  if (path === undefined) {
    throw new MeshError('invalid', `${host} is not an address of meshd; use one like ${DEFAULT_HOST}`);
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

/** Distinguishes a missing socket from one without permission; the transport reports both as `unavailable`. */
function checkSocket(path: string): void {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EACCES' || code === 'EPERM') {
      throw new MeshError(
        'permission',
        `no permission to use ${path}; run meshctl as root, or as a member of the group meshd`,
      );
    }
    throw new MeshError(
      'unavailable',
      `cannot reach meshd at ${path}: no such socket. A running meshd creates a removed socket again within seconds; ` +
        'otherwise see `systemctl status meshd`, or specify its address with --host',
    );
  }
}

/** The same calls with REQUEST_TIMEOUT, and with failures as messages for the command line. */
function withErrorMessages<C extends object>(calls: C, explain: (error: unknown) => Promise<unknown>): C {
  type Call = (request: unknown, settings?: CallSettings) => Promise<unknown> | AsyncIterable<unknown>;
  const wrapped: Record<string, unknown> = {};
  for (const [name, call] of Object.entries(calls) as [string, Call][]) {
    wrapped[name] = (request: unknown, settings: CallSettings = {}) => {
      // A watch has no deadline.
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

/** Messages of meshd itself have no cause and stay as they are; errors of the transport get a remedy. */
function explainError(error: unknown): unknown {
  if (!(error instanceof MeshError) || error.cause === undefined || error.code !== 'unavailable') return error;
  return new MeshError('unavailable', `${error.message}; see \`systemctl status meshd\``, { cause: error.cause });
}

/** Only managers serve Control: the error of another node names the manager. */
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
