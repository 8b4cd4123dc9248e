import { spawn } from 'node:child_process';
import { afterAll, expect, it } from 'vitest';
import { cleanUp, freshNetns, onCleanup } from '../../../native/test-support.ts';
import { portMark } from '../../model/linux-names.ts';
import { openNamespaces } from '../driver/namespaces.ts';
import { openTransport } from '../driver/transport.ts';
import { openFastPathMaps } from './fast-path-maps.ts';
import { markUnusedPorts } from './unused-ports.ts';

/** Needs root and python3. */

const host = freshNetns();
const transport = openTransport(
  { ...openNamespaces('/run/netns'), path: () => `/run/netns/${host.name}`, identity: () => host.name },
  { sends: 0, messages: 0, bytes: 0 },
);
const maps = openFastPathMaps();
afterAll(() => {
  cleanUp();
  transport.close();
  maps.close();
});

/** A listener on 8080 that connects to itself from 8081, over IPv6 from 8082; UDP on 53 and, of IPv6, on 54. */
const SOCKETS = `
import socket, sys
listener = socket.create_server(('127.0.0.1', 8080))
one = socket.create_connection(('127.0.0.1', 8080), source_address=('127.0.0.1', 8081))
other = socket.create_server(('::1', 8080), family=socket.AF_INET6)
two = socket.create_connection(('::1', 8080), source_address=('::1', 8082))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(('127.0.0.1', 53))
udp6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); udp6.bind(('::', 54))
idle = socket.create_server(('127.0.0.1', 8084))
print('ready', flush=True)
sys.stdin.read()
`;

it('ports are unused unless a socket has them that may have a peer', async () => {
  const ports = { tcp: [8080, 8081, 8082, 8083, 8084], udp: [53, 54, 55, 8081] };
  const sockets = spawn(
    'ip',
    ['netns', 'exec', host.name, 'python3', '-c', `import os; os.system('ip link set lo up')\n${SOCKETS}`],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  onCleanup(() => sockets.kill());
  await new Promise((resolve) => sockets.stdout.once('data', resolve));
  const published = [
    ...ports.tcp.map((port) => portMark('tcp', port)),
    ...ports.udp.map((port) => portMark('udp', port)),
  ];
  for (const mark of published) maps.setPort(mark);
  await markUnusedPorts(maps, transport, published);
  const used = [
    ...[8080, 8081, 8082].map((port) => portMark('tcp', port)),
    ...[53, 54].map((port) => portMark('udp', port)),
  ];
  expect(published.filter(maps.isUnknown).sort()).toEqual(used.sort());
  expect(maps.ports().sort()).toEqual(published.sort());
});

it('a port that is removed while the sockets are listed does not come back', async () => {
  const mark = portMark('tcp', 9000);
  maps.setPort(mark);
  const done = markUnusedPorts(maps, transport, [mark]);
  maps.deletePort(mark);
  await done;
  expect(maps.ports()).not.toContain(mark);
});
