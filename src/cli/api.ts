import { accessSync, constants } from 'node:fs';
import type { ServiceError } from '@grpc/grpc-js';
import { type ErrorCode, MeshError } from '../base/errors.ts';
import type { ControlService, LocalService, WatchEvent, WatchRequest } from '../rpc/gen/mesh.ts';

/** The unary calls of a generated service, as promises. */
export type Calls<S> = {
  [M in keyof S as S[M] extends { responseStream: false } ? M : never]: S[M] extends {
    requestSerialize: (value: infer Request) => Buffer;
    responseDeserialize: (value: Buffer) => infer Reply;
  }
    ? (request: Request) => Promise<Reply>
    : never;
};

/** What meshctl can ask a meshd. Failures are MeshErrors that say what to do next. */
export interface Api {
  address: string;
  control: Calls<ControlService>;
  local: Calls<LocalService>;
  /** Events until the signal aborts; a broken stream throws. */
  watch(request: WatchRequest, signal: AbortSignal): AsyncIterable<WatchEvent>;
  close(): void;
}

export const DEFAULT_HOST = 'unix:///run/meshd/meshd.sock';

/** Connects to the meshd behind a `unix://` address; nothing is sent yet, but the socket has to be there. */
export async function connect(host: string): Promise<Api> {
  const path = /^unix:(?:\/\/)?(\/.+)$/.exec(host)?.[1];
  if (path === undefined) {
    throw new MeshError('invalid', `${host} is not an address of meshd; give one like ${DEFAULT_HOST}`);
  }
  checkSocket(path);
  const [{ Client, credentials, status }, { ControlService, LocalService }] = await Promise.all([
    import('@grpc/grpc-js'),
    import('../rpc/gen/mesh.ts'),
  ]);
  const client = new Client(`unix:${path}`, credentials.createInsecure(), {
    'grpc.max_receive_message_length': 64 * 1024 * 1024,
    'grpc.enable_retries': 0,
  });

  type Method = {
    path: string;
    requestSerialize: (value: never) => Buffer;
    responseDeserialize: (value: Buffer) => unknown;
  };
  const unary = (method: Method) => (request: never) =>
    new Promise<unknown>((resolve, reject) => {
      client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        (error, reply) => {
          if (error === null) resolve(reply);
          else if (error.code === status.UNIMPLEMENTED && method.path.includes('Control')) {
            notManager(api).then(reject, reject);
          } else reject(explain(error, path));
        },
      );
    });
  const calls = <S extends object>(service: S): Calls<S> =>
    Object.fromEntries(Object.entries(service).map(([name, method]) => [name, unary(method as Method)])) as Calls<S>;

  const api: Api = {
    address: host,
    control: calls(ControlService),
    local: calls(LocalService),
    async *watch(request, signal) {
      const { path: method, requestSerialize, responseDeserialize } = ControlService.watch;
      const stream = client.makeServerStreamRequest(method, requestSerialize, responseDeserialize, request);
      const cancel = () => stream.cancel();
      signal.addEventListener('abort', cancel);
      try {
        for await (const event of stream) yield event as WatchEvent;
      } catch (error) {
        if (!signal.aborted) throw explain(error as ServiceError, path);
      } finally {
        signal.removeEventListener('abort', cancel);
        stream.cancel();
      }
    },
    close: () => client.close(),
  };
  return api;
}

/** A socket that is missing or closed to us is told apart before gRPC wraps it into one "unavailable". */
function checkSocket(path: string): void {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EACCES' || code === 'EPERM') {
      throw new MeshError('permission', `no permission to use ${path}; run meshctl as root, or with sudo`);
    }
    throw new MeshError('unavailable', unreachable(path, 'there is no such socket'));
  }
}

function unreachable(path: string, why: string): string {
  return `cannot reach meshd at ${path}: ${why}. Is meshd running? See \`systemctl status meshd\`, or give its address with --host`;
}

/** Status codes of gRPC by number (doc/statuscodes.md), as far as meshd sends them. */
const CODES: Record<number, ErrorCode> = {
  3: 'invalid',
  5: 'not-found',
  6: 'conflict',
  7: 'permission',
  8: 'exhausted',
  9: 'conflict',
  10: 'conflict',
  12: 'unsupported',
  14: 'unavailable',
  15: 'corrupt',
};

function explain(error: ServiceError, path: string): MeshError {
  const code = CODES[error.code] ?? 'internal';
  if (code === 'permission' && /EACCES/.test(error.details)) {
    return new MeshError('permission', `no permission to use ${path}; run meshctl as root, or with sudo`);
  }
  // A message of meshd itself is meant for people; only the words of the transport need translation.
  if (code === 'unavailable' && /ECONNREFUSED|ENOENT|No connection established/.test(error.details)) {
    return new MeshError(code, unreachable(path, 'nobody answers'));
  }
  if (code === 'unavailable' && /dropped|ECONNRESET|EPIPE|GOAWAY|disconnected/i.test(error.details)) {
    return new MeshError(
      code,
      `the connection to meshd at ${path} broke off; see \`journalctl -u meshd\` if it does not come back`,
    );
  }
  return new MeshError(code, error.details === '' ? `meshd answered with gRPC status ${error.code}` : error.details);
}

async function notManager(api: Api): Promise<MeshError> {
  const { nodeName, manager } = await api.local.info({});
  const where = manager === '' ? 'on a manager' : `on the manager (${manager})`;
  const here = nodeName === '' ? 'this node' : `this node (${nodeName})`;
  return new MeshError('unsupported', `${here} is not a manager; run this ${where}`);
}
