// Answers with the name of the task and the address of the client. Used by the demo and the tests.
//   PORT      TCP port for HTTP, default 80
//   UDP_PORT  UDP port, off by default
import { createSocket } from 'node:dgram';
import { createServer } from 'node:http';

const task = `${process.env.MESH_SERVICE}.${process.env.MESH_TASK_SLOT}`;
const self = `${task} ${process.env.MESH_TASK_ID} on ${process.env.MESH_NODE}`;
const plain = (address) => address.replace(/^::ffff:/, '');

const server = createServer((request, response) => {
  const { remoteAddress, remotePort } = request.socket;
  const answer = () => response.end(`${self} sees ${plain(remoteAddress)} ${remotePort}\n`);
  const wait = Number(new URL(request.url, 'http://task').searchParams.get('wait') ?? 0);
  if (wait > 0) setTimeout(answer, Math.min(wait, 60_000));
  else answer();
});
// Keep open connections: by default Node closes them after a minute without a request.
server.headersTimeout = 0;
server.requestTimeout = 0;
server.keepAliveTimeout = 600_000;
server.listen(Number(process.env.PORT ?? 80), '::');

const { UDP_PORT } = process.env;
if (UDP_PORT) {
  const socket = createSocket('udp4', (_, from) => {
    socket.send(`${self} sees ${from.address} ${from.port}\n`, from.port, from.address);
  });
  socket.bind(Number(UDP_PORT));
}

// Graceful stop: finish open requests, accept no new ones.
process.on('SIGTERM', () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
