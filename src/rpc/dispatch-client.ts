import { Client, type ClientDuplexStream, credentials, Metadata } from '@grpc/grpc-js';
import type { AgentMessage, ManagerMessage } from './gen/mesh.ts';
import { DispatchService } from './gen/mesh.ts';
import { clientOptions } from './limits.ts';
import { fromStatus } from './status.ts';
import { type Duplex, messages, write } from './stream.ts';

export interface DispatchConnection {
  /** Opens the agent's session. Errors (also of the connection) come out of `received`. */
  session(): Duplex<ManagerMessage, AgentMessage>;
  close(): void;
}

/** For an agent's stream to a manager; `address`: `host:port`, or a path as for connectControl. */
export function connectDispatch(address: string): DispatchConnection {
  const client = open(address);
  return {
    session: () => {
      const method = DispatchService.session;
      const call = client.makeBidiStreamRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        new Metadata(),
        {},
      );
      return duplex(call, address);
    },
    close: () => client.close(),
  };
}

function open(address: string): Client {
  const target = address.startsWith('/') ? `unix:${address}` : address.replace(/^unix:\/\//, 'unix:');
  return new Client(target, credentials.createInsecure(), clientOptions);
}

function duplex<In, Out>(call: ClientDuplexStream<Out, In>, where: string): Duplex<In, Out> {
  const over = new AbortController();
  call.on('status', () => over.abort());
  call.on('error', () => over.abort());
  return {
    received: messages<In>(call, (thrown) => fromStatus(thrown, where)),
    send: (message) => write(call, message, over.signal),
    end: (error) => {
      if (error) call.cancel();
      else call.end();
    },
    closed: over.signal,
    peer: where,
  };
}
