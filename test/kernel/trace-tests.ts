import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { test } from 'node:test';
import fc from 'fast-check';
import { answerRoutesQuery } from '../../src/agent/session/routes-query.ts';
import { stateOf } from '../../src/model/kernel-state.ts';
import type { ConnectionRoutes } from '../../src/model/route-lookup.ts';
import { traceHost } from '../../src/trace/host.ts';
import { traceAnswerInHost } from '../../src/trace/host-routes.ts';
import type { NodeState, TraceRequest } from '../../src/trace/packet.ts';
import type { PartialPath } from '../../src/trace/partial-path.ts';
import { type Family, followHost, forgetHost, LB, PORT, startEcho } from './host-routing.ts';
import { node } from './node.ts';
import { runShell } from './sandbox.ts';

/*
 * Trace against packets: on hosts with random rules, routes, rp_filter and called addresses, no packet may be lost that
 * trace says is answered. The other way round it may be more careful: an answer over another uplink arrives here, and
 * would not on most networks. `far` is the client and the router behind both uplinks.
 */

const CALLED = {
  inet: ['198.51.100.1', '203.0.112.1', '198.18.0.1'],
  inet6: ['2001:db8:9::1', '2001:db8:8::1', '2001:db8:7::1'],
} as const;
/** The last is a neighbour on the second uplink. */
const CLIENTS = {
  inet: ['203.0.113.9', '198.51.100.50'],
  inet6: ['2001:db8:99::9', '2001:db8:9::50'],
} as const;
const NETWORKS = {
  inet: [...CALLED.inet, '198.51.100.0/24', '10.0.0.0/8', '0.0.0.0/0', '203.0.113.0/24'],
  inet6: [...CALLED.inet6, '2001:db8:9::/64', 'fd6d::/16', '::/0', '2001:db8:99::/64'],
} as const;
const GATEWAYS = {
  inet: { up1: '203.0.112.254', up2: '198.51.100.254' },
  inet6: { up1: '2001:db8:8::fe', up2: '2001:db8:9::fe' },
} as const;
/** Of the host, for routes of `far` to any called address. */
const HOST_SIDE = {
  inet: { up1: '203.0.112.2', up2: '198.51.100.2' },
  inet6: { up1: '2001:db8:8::2', up2: '2001:db8:9::2' },
} as const;
const FLAG = { inet: '-4', inet6: '-6' } as const;
const TABLES = ['main', '100', '101'] as const;
type Uplink = 'up1' | 'up2';

const SETUP = `
  ip netns add far; ip -n far link set lo up
  for n in 1 2; do ip link add up$n type veth peer name far$n netns far; ip link set up$n up; ip -n far link set far$n up; done
  ip addr add 203.0.112.1/24 dev up1; ip addr add 203.0.112.2/24 dev up1; ip -n far addr add 203.0.112.254/24 dev far1
  ip addr add 198.51.100.1/24 dev up2; ip addr add 198.51.100.2/24 dev up2; ip -n far addr add 198.51.100.254/24 dev far2
  ip addr add 198.18.0.1/32 dev lo; ip -6 addr add 2001:db8:7::1/128 dev lo
  for a in 1 2; do ip -6 addr add 2001:db8:8::$a/64 dev up1 nodad; ip -6 addr add 2001:db8:9::$a/64 dev up2 nodad; done
  ip -n far -6 addr add 2001:db8:8::fe/64 dev far1 nodad; ip -n far -6 addr add 2001:db8:9::fe/64 dev far2 nodad
  ip -n far addr add 203.0.113.9/32 dev lo; ip -n far addr add 198.51.100.50/32 dev lo
  for n in 1 2; do for a in 99::9 9::50; do ip -n far -6 addr add 2001:db8:$a/128 dev far$n nodad; done; done
  ip netns exec far sh -c 'for link in all far1 far2; do sysctl -qw net.ipv4.conf.$link.rp_filter=0; done'
  ipset -exist add mesh-pub-udp ${PORT}`;
const CLEANUP = `
  ip link del up1; ip link del up2; ip netns del far; ipset del mesh-pub-udp ${PORT}
  ip addr del 198.18.0.1/32 dev lo; ip -6 addr del 2001:db8:7::1/128 dev lo
  sysctl -qw net.ipv4.conf.all.rp_filter=0`;

const anyAction = fc.constantFrom('lookup 100', 'lookup 101', 'lookup 102', 'lookup main', 'unreachable', 'blackhole');
const anyRule = (family: Family) =>
  fc
    .record({
      distance: fc.integer({ min: 1, max: 3 }),
      not: fc.constantFrom('', '', '', 'not'),
      from: fc.option(fc.constantFrom(...NETWORKS[family])),
      to: fc.option(fc.constantFrom(...NETWORKS[family], ...CLIENTS[family]), { freq: 1 }),
      more: fc.constantFrom('', '', '', '', 'iif lo', 'iif up2', 'oif up1', 'ipproto udp', `sport ${PORT}`, 'fwmark 1'),
      action: anyAction,
    })
    .map(({ distance, not, from, to, more, action }) => {
      const words = [not, `from ${from ?? 'all'}`, to === null ? '' : `to ${to}`, more, action];
      return { distance, words: words.filter((word) => word !== '').join(' ') };
    });

const anyRoute = (family: Family) =>
  fc
    .record({
      table: fc.constantFrom(...TABLES),
      to: fc.constantFrom('default', 'default', CLIENTS[family][0]),
      way: fc.constantFrom(
        `via ${GATEWAYS[family].up1} dev up1`,
        `via ${GATEWAYS[family].up2} dev up2`,
        'dev up2',
        'unreachable',
        'blackhole',
      ),
    })
    .map(({ table, to, way }) => {
      const isType = !way.includes('dev');
      // IPv6 adds a second next hop to a route of the same destination, and only one may be there.
      return {
        key: `${table} ${to}`,
        words: `${isType ? `${way} ` : ''}${to}${isType ? '' : ` ${way}`} table ${table}`,
      };
    });

const anyHost = fc.constantFrom<Family>('inet', 'inet6').chain((family) =>
  fc.record({
    family: fc.constant(family),
    rules: fc.array(anyRule(family), { maxLength: 4 }),
    routes: fc.uniqueArray(anyRoute(family), { minLength: 1, maxLength: 4, selector: ({ key }) => key }),
    rpFilter: fc.record({
      all: fc.constantFrom(0, 0, 1, 2),
      up1: fc.constantFrom(0, 1, 2),
      up2: fc.constantFrom(0, 1, 2),
    }),
    isFollowed: fc.constantFrom(true, true, false),
    called: fc.constantFrom(...CALLED[family]),
    client: fc.constantFrom(...CLIENTS[family]),
  }),
);
type Host = typeof anyHost extends fc.Arbitrary<infer T> ? T : never;

export function testTrace(): void {
  test('trace says "answered" of no packet that is lost, whatever the routing of the host is', async () => {
    runShell(SETUP);
    const echo = await startEcho();
    const client = startClient();
    const seen = { answered: 0, lost: 0 };
    try {
      await fc.assert(
        fc.asyncProperty(anyHost, async (host) => {
          const undo = configure(host);
          try {
            if (host.isFollowed) await followHost();
            const { outcome, routes } = await traceOnHost(host);
            const packet = await client.call(host, entranceOf(routes), outcome === 'answered' ? 10_000 : 100);
            seen[packet] += 1;
            if (outcome === 'answered') {
              assert.equal(packet, 'answered', `${JSON.stringify(routes)}\n${runShell('ip rule; ip -6 rule')}`);
            }
          } finally {
            undo();
            await forgetHost();
          }
        }),
        { numRuns: 40, seed: 20_261_130, endOnFailure: true },
      );
    } finally {
      client.stop();
      echo.kill();
      runShell(CLEANUP);
    }
    assert.ok(seen.answered >= 10 && seen.lost >= 10, JSON.stringify(seen));
  });
}

/** Returns what undoes it. */
function configure({ family, rules, routes, rpFilter }: Host): () => void {
  let priority = 1_000;
  const lines = [
    ...routes.map(({ words }) => `route VERB ${words}`),
    ...rules.map(({ distance, words }) => {
      priority += distance;
      return `rule VERB ${words} priority ${priority}`;
    }),
  ];
  const batch = (verb: string) =>
    `printf '%s\\n' ${lines.map((line) => `'${line.replace('VERB', verb)}'`).join(' ')} | ip ${FLAG[family]} -batch -`;
  const filters = Object.entries(rpFilter).map(([link, value]) => `net.ipv4.conf.${link}.rp_filter=${value}`);
  runShell(`${batch('add')}; sysctl -qw ${filters.join(' ')}`);
  return () => runShell(batch('del'));
}

/** What trace says of the part of the connection that is in the host. */
async function traceOnHost({ family, called, client }: Host) {
  const published = { kind: 'set-member', netns: 'host', set: 'mesh-pub-udp', port: PORT } as const;
  const state = new Map([...node.want, ...stateOf([published])]);
  const question = { client, called, protocol: 'udp', published: PORT };
  const routes = await answerRoutesQuery(question, state, node.kernel.lookUpRoute);
  const addresses = (await node.kernel.hostNetwork.addresses()).map(({ address }) => address);
  const traced: NodeState = { nodeId: 'node1', name: 'node1', revision: 1, state, addresses };
  const request: TraceRequest = { client, node: traced, destination: called, protocol: 'udp', port: PORT, routes };
  const partial: PartialPath = { node: traced, hops: [] };
  const inLb = traceHost(partial, request);
  const isAnswered =
    inLb !== undefined &&
    traceAnswerInHost(partial, request, { ...inLb, source: LB[family], destination: client, called });
  return { outcome: isAnswered ? 'answered' : partial.end?.outcome, routes };
}

/** Trace takes it that the request arrives where packets from the called address leave. */
function entranceOf({ own }: ConnectionRoutes): Uplink {
  return 'link' in own && own.link === 'up1' ? 'up1' : 'up2';
}

/** A UDP client in `far`, which runs as long as the test. */
function startClient() {
  const script = `
    const { createSocket } = require('node:dgram');
    require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
      const { client, called, wait } = JSON.parse(line);
      const socket = createSocket(called.includes(':') ? 'udp6' : 'udp4');
      const timers = [];
      const end = (outcome) => { timers.forEach(clearTimeout); socket.close(); console.log(outcome); };
      socket.on('error', () => {});
      socket.on('message', () => end('answered'));
      socket.bind(0, client, () => socket.connect(${PORT}, called, () => {
        socket.send('x', () => {});
        timers.push(setInterval(() => socket.send('x', () => {}), 50), setTimeout(() => end('lost'), wait));
      }));
    });`;
  const child: ChildProcess = spawn('ip', ['netns', 'exec', 'far', process.execPath, '-e', script], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const { stdin, stdout } = child;
  assert.ok(stdin && stdout);
  stdout.setEncoding('utf8');
  return {
    /** Whether the called address answers; its packets enter the host by that uplink. `wait` in ms. */
    async call({ family, called, client }: Host, uplink: Uplink, wait: number): Promise<'answered' | 'lost'> {
      const way = `via ${HOST_SIDE[family][uplink]} dev ${uplink.replace('up', 'far')}`;
      runShell(`ip -n far ${FLAG[family]} route replace ${called} ${way}`);
      const line = new Promise<string>((resolve) => stdout.once('data', resolve));
      stdin.write(`${JSON.stringify({ client, called, wait })}\n`);
      return (await line).trim() === 'answered' ? 'answered' : 'lost';
    },
    stop: () => child.kill(),
  };
}
