// A cluster that publishes over IPv6 too: overlay addresses of both families over an IPv4 underlay.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { nodeNames, type ProbeClient, parseWhoami, runOn, stdoutOf } from './harness.ts';
import { applyWeb, clientProbe, inet6Of, probeOn } from './shared.ts';

let outsideClient: ProbeClient;
before(async () => {
  outsideClient = await clientProbe();
  await applyWeb({ replicas: 2, ports: ['8080:80'] });
});

for (const node of nodeNames()) {
  test(`over IPv6 a client on ${node}:8080 reaches every task and is seen with its own address`, async () => {
    const tasks = new Set<string>();
    for (let call = 0; call < 4; call += 1) {
      const answer = parseWhoami(await outsideClient.http(`http://[${inet6Of(node)}]:8080/`));
      assert.equal(answer.address, inet6Of('client'));
      tasks.add(answer.task);
    }
    assert.equal(tasks.size, 2);
  });

  test(`over IPv4 ${node}:8080 still works`, async () => {
    const answer = parseWhoami(await outsideClient.http(`http://${node}:8080/`));
    assert.notEqual(answer.node, 'node1');
  });

  test(`${node} reaches its own IPv6 address; [::1]:8080 responds or is refused at once`, async () => {
    const here = await probeOn(node);
    parseWhoami(await here.http(`http://[${inet6Of(node)}]:8080/`));
    const outcome = await here.http('http://[::1]:8080/', { timeout: 3_000 }).catch((error: Error) => error.message);
    assert.doesNotMatch(outcome, /no response/);
    parseWhoami(await here.http('http://127.0.0.1:8080/'));
  });
}

/** What becomes of a connection from the client: `connected`, or the code of the error. */
async function connectFromClient(options: object): Promise<string> {
  const script = `
    const socket = require('node:net').connect(${JSON.stringify({ ...options, timeout: 20_000 })});
    const end = (word) => { console.log(word); process.exit(); };
    socket.on('connect', () => end('connected')).on('timeout', () => end('timeout')).on('error', ({ code }) => end(code));`;
  return (await stdoutOf(runOn('client', 'node', '-e', script))).trim();
}

async function linkLocalOf(host: string): Promise<string> {
  const [link] = JSON.parse(
    await stdoutOf(runOn(host, 'ip', '-j', '-6', 'address', 'show', 'dev', 'eth0', 'scope', 'link')),
  );
  // Addresses of other scopes are listed as empty objects.
  const { local } = link.addr_info.find(({ scope }: { scope?: string }) => scope === 'link');
  return `${local}%eth0`;
}

test('a connection from or to a link-local address is left to the node, which refuses it immediately', async () => {
  assert.equal(await connectFromClient({ host: await linkLocalOf('node1'), port: 8080 }), 'ECONNREFUSED');
  const localAddress = await linkLocalOf('client');
  assert.equal(await connectFromClient({ host: inet6Of('node1'), port: 8080, localAddress }), 'ECONNREFUSED');
  assert.equal(await connectFromClient({ host: inet6Of('node1'), port: 8080 }), 'connected');
});

test('large requests cross the overlay over IPv6', async () => {
  parseWhoami(await outsideClient.http(`http://[${inet6Of('node1')}]:8080/${'x'.repeat(12_000)}`));
});
