import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diff } from '../../src/diff/diff.ts';
import { probeSchedulers } from '../../src/kernel/ipvs/schedulers.ts';
import type { ApplyReport } from '../../src/kernel/kernel.ts';
import type { AssignedPort } from '../../src/model/assignment.ts';
import { renderOp } from '../../src/model/render.ts';
import { SCHEDULERS } from '../../src/model/spec.ts';
import { endpoint } from '../../src/plan/assignments.test-data.ts';
import { assignment, damageAndRepair, ipvsOptions, measureChange, node } from './node.ts';
import { runShell } from './sandbox.ts';

/** The node with its first port, 8080/tcp, balanced in another way; the idle time is that of all its ports. */
const withPort = (fields: Partial<AssignedPort>) => {
  const { idleTimeout } = fields;
  const idle = idleTimeout === undefined ? {} : { idleTimeout };
  return {
    ...assignment,
    ports: assignment.ports.map((port, index) => ({ ...port, ...(index === 0 ? fields : idle) })),
  };
};
const lb = (command: string) => runShell(`ip netns exec mesh-lb ${command}`).replace(/ +/g, ' ');
/** Real servers of 8080/tcp over IPv4, newest first as the kernel lists them. */
const servers = () => [...lb('ipvsadm -Ln --nosort -f 73616').matchAll(/-> (\S+):80 /g)].map((match) => match[1]);
const UDP_CLOCK = 'net.netfilter.nf_conntrack_udp_timeout';
const serviceSetting = (words: string) => / sysctl -qw (.*)=/.exec(words)?.[1] ?? words;
const operationVerbs = ({ done }: ApplyReport) =>
  done.flatMap(renderOp).map((words) => / ipvsadm (\S+)/.exec(words)?.[1] ?? words);

/** Schedulers, flags, affinity and the order of real servers on a real kernel, as ipvsadm lists them. */
export function testBalancing(): void {
  test('detects the schedulers of the kernel', ipvsOptions, async () => {
    assert.deepEqual(await probeSchedulers([...SCHEDULERS, 'nonesuch']), [...SCHEDULERS]);
  });

  test('edits scheduler, flags, affinity and idle times in place', ipvsOptions, async () => {
    const persistence = { timeout: 300_000, prefix: { inet: 24, inet6: 64 } };
    const sticky = await measureChange(withPort({ persistence }));
    // Found by address instead of by mark: created, then the old one is deleted.
    assert.deepEqual(operationVerbs(sticky), ['-A', '-A', '-a', '-a', '-a', '-a', '-D', '-D']);
    const hashed = await measureChange(withPort({ persistence, scheduler: 'mh', schedulerFlags: ['mh-port'] }));
    // Of the two real servers of each family the order is not known.
    assert.deepEqual(operationVerbs(hashed), ['-E', '-E', ...Array(4).fill(['-d', '-a']).flat()]);
    const listing = lb('ipvsadm -Ln');
    assert.match(listing, /^TCP 10\.252\.1\.2:8080 mh \(mh-fallback,mh-port\) persistent 300 mask 255\.255\.255\.0$/m);
    assert.match(listing, /^TCP \[fd6d:65:73:1::2\]:8080 mh \(mh-fallback,mh-port\) persistent 300 mask 64$/m);
    const withIdleTimeout = { persistence: { ...persistence, timeout: 60_000 }, scheduler: 'sh', idleTimeout: 900_000 };
    assert.deepEqual(operationVerbs(await measureChange(withPort(withIdleTimeout))).map(serviceSetting), [
      '--set',
      UDP_CLOCK,
      `${UDP_CLOCK}_stream`,
      '-E',
      '-E',
    ]);
    assert.match(lb('ipvsadm -Ln'), /^TCP 10\.252\.1\.2:8080 sh \(sh-fallback\) persistent 60 mask 255\.255\.255\.0$/m);
    assert.match(lb('ipvsadm -Ln --timeout'), /: 900 120 900\s*$/);
    const counts = await node.kernel.connections('mesh-lb', [73_616]);
    assert.equal(counts.size, 4);
    await damageAndRepair('ip netns exec mesh-lb ipvsadm -E -t 10.252.1.2:8080 -s sh -p 77');
    await damageAndRepair('ip netns exec mesh-lb ipvsadm -A -f 73616 -s rr');
    await measureChange(assignment);
    assert.match(lb('ipvsadm -Ln'), /^FWM 73616 rr$/m);
    assert.doesNotMatch(lb('ipvsadm -Ln'), /^TCP/m);
    assert.match(lb('ipvsadm -Ln --timeout'), /: 10800 120 120\s*$/);
  });

  test('weights reach IPVS up to 65535', ipvsOptions, async () => {
    await measureChange(withPort({ scheduler: 'wrr', endpoints: [endpoint(1, 1, 'inet', 80, 65_535)] }));
    assert.match(lb('ipvsadm -Sn'), /-r 10\.252\.1\.5:80 -m -w 65535/);
    await measureChange(assignment);
  });

  test('keeps real servers of a scheduler that hashes in their order', ipvsOptions, async () => {
    const order = [endpoint(3, 1, 'inet', 80), endpoint(1, 1, 'inet', 80), endpoint(2, 1, 'inet', 80)];
    const newestFirst = ['10.252.2.5', '10.252.1.5', '10.252.3.5'];
    for (const scheduler of ['mh', 'sh']) {
      await measureChange(withPort({ scheduler, endpoints: order }));
      assert.deepEqual(servers(), newestFirst);
      const switches = () => lb('sysctl -n net.ipv4.vs.expire_nodest_conn').trim();
      await damageAndRepair('ip netns exec mesh-lb ipvsadm -d -f 73616 -r 10.252.3.5:80');
      assert.deepEqual([servers(), switches()], [newestFirst, '1']);
      const again = 'ip netns exec mesh-lb ipvsadm';
      await damageAndRepair(`${again} -d -f 73616 -r 10.252.1.5:80; ${again} -a -f 73616 -r 10.252.1.5:80 -m -w 1`);
      assert.deepEqual([servers(), switches()], [newestFirst, '1']);
      await damageAndRepair(`${again} -E -f 73616 -s ${scheduler} -p 300`);
      await damageAndRepair(`${again} -E -f 73616 -s ${scheduler}`);
      await damageAndRepair(`${again} -E -f 73616 -s wlc`);
      assert.deepEqual(servers(), newestFirst);
    }
    await measureChange(withPort({ scheduler: 'mh', endpoints: order.slice(1) }));
    assert.deepEqual(servers(), newestFirst.slice(0, 2));
    await measureChange(assignment);
    assert.deepEqual(diff(await node.kernel.observe(), node.want), []);
  });
}
