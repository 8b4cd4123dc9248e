// A cluster that publishes over IPv6 too: inner addresses of both families over an IPv4 underlay.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { nodeNames, type Probe, parseAnswer } from './mesh.ts';
import { applyWeb, clientProbe, inet6Of, probeIn } from './shared.ts';

let outside: Probe;
before(async () => {
  outside = await clientProbe();
  await applyWeb({ replicas: 2, ports: ['8080:80'] });
});

for (const node of nodeNames()) {
  test(`over IPv6 a client on ${node}:8080 reaches every task and is seen with its own address`, async () => {
    const tasks = new Set<string>();
    for (let call = 0; call < 4; call += 1) {
      const answer = parseAnswer(await outside.http(`http://[${inet6Of(node)}]:8080/`));
      assert.equal(answer.address, inet6Of('client'));
      tasks.add(answer.task);
    }
    assert.equal(tasks.size, 2);
  });

  test(`over IPv4 ${node}:8080 answers as before`, async () => {
    const answer = parseAnswer(await outside.http(`http://${node}:8080/`));
    assert.notEqual(answer.node, 'node1');
  });

  test(`${node} reaches its own IPv6 address; [::1]:8080 is answered or refused at once`, async () => {
    const here = await probeIn(node);
    parseAnswer(await here.http(`http://[${inet6Of(node)}]:8080/`));
    const outcome = await here.http('http://[::1]:8080/', { timeout: 3_000 }).catch((error: Error) => error.message);
    assert.doesNotMatch(outcome, /no answer/);
    parseAnswer(await here.http('http://127.0.0.1:8080/'));
  });
}

test('large questions cross the overlay over IPv6', async () => {
  parseAnswer(await outside.http(`http://[${inet6Of('node1')}]:8080/${'x'.repeat(12_000)}`));
});
