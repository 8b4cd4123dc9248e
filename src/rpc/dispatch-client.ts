import { Client, type ClientDuplexStream, credentials, type ServiceError } from '@grpc/grpc-js';
import { MeshError, messageOf } from '../base/errors.ts';
import { readManagerMessage, writeAgentMessage } from './dispatch-messages.ts';
import { Dispatch } from './gen/dispatch_pb.js';
import { grpcDefinition } from './grpc-service.ts';
import { clientOptions } from './limits.ts';
import type { AgentMessage, ManagerMessage } from './messages.ts';
import { createSendQueue } from './send-queue.ts';
import { type Duplex, messages } from './session.ts';
import { fromStatus, RETRY_KEY } from './status.ts';

export interface DispatchConnection {
  /** Opens the agent's session. Errors (also of the connection) come out of `received`. */
  session(): Duplex<ManagerMessage, AgentMessage>;
  close(): void;
}

/** For an agent's stream to a manager; `address`: `host:port`, or the path of a unix socket. */
export function connectDispatch(address: string): DispatchConnection {
  const target = address.startsWith('/') ? `unix:${address}` : address.replace(/^unix:\/\//, 'unix:');
  const client = new Client(target, credentials.createInsecure(), clientOptions);
  const { path, requestSerialize, responseDeserialize } = grpcDefinition(Dispatch).session!;
  return {
    session: () =>
      duplex(client.makeBidiStreamRequest<Buffer, Buffer>(path, requestSerialize, responseDeserialize), address),
    close: () => client.close(),
  };
}

function duplex(call: ClientDuplexStream<Buffer, Buffer>, where: string): Duplex<ManagerMessage, AgentMessage> {
  const over = new AbortController();
  let reason: MeshError | undefined;
  call.on('status', () => over.abort());
  call.on('error', () => over.abort());
  const queue = createSendQueue(call, over.signal, (thrown) => {
    reason = thrown;
    call.cancel();
  });
  return {
    received: messages(call, readManagerMessage, (thrown) => reason ?? fromGrpcError(thrown, where)),
    send: (message) => queue.send(writeAgentMessage(message)),
    end(error) {
      if (error) call.cancel();
      else queue.finish(() => call.end());
    },
    closed: over.signal,
    peer: where,
  };
}

function fromGrpcError(thrown: unknown, where: string): MeshError {
  if (thrown instanceof MeshError) return thrown;
  const { code, details, metadata } = thrown as Partial<ServiceError>;
  if (typeof code !== 'number') return new MeshError('internal', messageOf(thrown), { cause: thrown });
  const [retry] = metadata?.get(RETRY_KEY) ?? [];
  return fromStatus(
    { code, details: details ?? '', cause: thrown, ...(retry === undefined ? {} : { retry: String(retry) }) },
    where,
  );
}
