import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createConnectionLimit } from '../../base/connection-limit.ts';
import { handleHealthRequest, mayReadDetails, type NodeHealth, STATUS_WORDS } from './health-request.ts';
import { sourceOf } from './health-source.ts';

/** Any host that reaches it may ask, so connections, headers and times are bounded. */
const MAX_CONNECTIONS = 256;
/** Enough for a load balancer that keeps a connection for each of its checks. */
const MAX_CONNECTIONS_PER_SOURCE = 64;
const REQUEST_TIMEOUT = 5_000;
/**
 * A read-only HTTP server for load balancers in front of the nodes. Callers outside the cluster get a status code and one
 * word; this machine and the nodes get details in JSON.
 */
export function createHealthServer(health: () => NodeHealth): Server {
  const server = createServer(
    {
      maxHeaderSize: 4_096,
      headersTimeout: REQUEST_TIMEOUT,
      requestTimeout: REQUEST_TIMEOUT,
      keepAliveTimeout: REQUEST_TIMEOUT,
      connectionsCheckingInterval: REQUEST_TIMEOUT,
    },
    (request, response) => respond(request, response, health()),
  );
  server.maxConnections = MAX_CONNECTIONS;
  const limitConnection = createConnectionLimit(MAX_CONNECTIONS_PER_SOURCE);
  server.on('connection', (socket) => limitConnection(socket, sourceOf(socket.remoteAddress)));
  server.timeout = 2 * REQUEST_TIMEOUT;
  return server;
}

function respond(request: IncomingMessage, response: ServerResponse, node: NodeHealth): void {
  request.resume();
  const send = (status: number, type: string, body: string, headers = {}) => {
    response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store', ...headers });
    response.end(request.method === 'HEAD' ? undefined : `${body}\n`);
  };
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    send(405, 'text/plain', 'only GET and HEAD', { allow: 'GET, HEAD', connection: 'close' });
    return;
  }
  const { status, details } = handleHealthRequest(request.url!.split('?', 1)[0]!, node);
  if (mayReadDetails(request.socket.remoteAddress, node.nodeAddresses))
    send(status, 'application/json', JSON.stringify(details));
  else send(status, 'text/plain', STATUS_WORDS[status]);
}
