import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Family, followHost, forgetHost, LB, PORT, startEcho } from './host-routing.ts';
import { assertListed, node } from './node.ts';
import { runShell } from './sandbox.ts';

/*
 * A host with a second uplink and rules that choose it by source address. `far` is the client and every router.
 */

const CALLED = { inet: '198.51.100.1', inet6: '2001:db8:9::1' } as const;
const CLIENT = { inet: '203.0.113.9', inet6: '2001:db8:99::9' } as const;

const FLAG = { inet: '-4', inet6: '-6' } as const;

const SETUP = `
  ip netns add far
  ip link add up2 type veth peer name far2 netns far
  ip link set up2 up; ip -n far link set far2 up; ip -n far link set lo up
  ip addr add ${CALLED.inet}/24 dev up2; ip -n far addr add 198.51.100.254/24 dev far2
  ip -6 addr add ${CALLED.inet6}/64 dev up2 nodad; ip -n far -6 addr add 2001:db8:9::fe/64 dev far2 nodad
  ip -n far addr add ${CLIENT.inet}/32 dev lo; ip -n far -6 addr add ${CLIENT.inet6}/128 dev lo nodad
  ip route add default dev underlay0; ip -6 route add default dev underlay0
  ip route add default via 198.51.100.254 table 100; ip -6 route add default via 2001:db8:9::fe table 100
  ip route add default dev underlay0 table 101; ip -6 route add default dev underlay0 table 101`;

/** Whether a client behind the second uplink is answered by the published port. */
function isAnswered(family: Family): boolean {
  const script = `
    const socket = require('node:dgram').createSocket('${family === 'inet' ? 'udp4' : 'udp6'}');
    socket.on('message', () => { console.log('answered'); process.exit(); });
    socket.bind(0, '${CLIENT[family]}', () => socket.connect(${PORT}, '${CALLED[family]}', () => {
      socket.on('error', () => {});
      socket.send('x');
      setInterval(() => socket.send('x'), 100);
      setTimeout(() => process.exit(), 1500);
    }));`;
  return runShell(`ip netns exec far ${process.execPath} -e "${script.replaceAll('"', '\\"')}"`).includes('answered');
}

export function testSourceRouting(): void {
  test('answers leave by the routes of the address that was called', async () => {
    runShell(SETUP);
    runShell(`ipset add mesh-pub-udp ${PORT}`);
    const echo = await startEcho();
    try {
      for (const family of ['inet', 'inet6'] as const) {
        const ip = family === 'inet' ? 'ip' : 'ip -6';
        runShell(`${ip} rule add from ${CALLED[family]} lookup 100 priority 1000`);
        assert.equal(isAnswered(family), false, `${family}: without meshd's rules`);
        await followHost();
        assert.equal(isAnswered(family), true, `${family}: with them`);
      }
      runShell('for link in all up2; do sysctl -qw net.ipv4.conf.$link.rp_filter=1; done');
      assert.equal(isAnswered('inet'), false, 'a strict reverse path check, not followed yet');
      const { strictReversePath } = await followHost();
      runShell(`ipset del mesh-pub-udp ${PORT}`);
      assert.equal(strictReversePath, true);
      assertListed();
      runShell(`ipset add mesh-pub-udp ${PORT}`);
      assert.equal(isAnswered('inet'), true, 'a strict reverse path check');

      // A rule by link, of which a program of the host would see nothing.
      runShell('ip rule add iif up2 lookup 101');
      await followHost();
      assert.equal(isAnswered('inet'), true, 'a rule by link');
      // As without meshd, the later of two rules without a priority comes first, and after the table 'local'.
      runShell('ip rule add fwmark 7 lookup 101');
      const added = [...runShell('ip rule').matchAll(/^(\d+):.*(fwmark 0x7|iif up2) lookup 101/gm)];
      assert.deepEqual(
        added.map(([, , words]) => words),
        ['fwmark 0x7', 'iif up2'],
      );
      assert.ok(Number(added[0]![1]) > 0 && Number(added[0]![1]) < Number(added[1]![1]));
    } finally {
      echo.kill();
      runShell(`ipset del mesh-pub-udp ${PORT}`);
      runShell(
        'ip rule del iif up2 lookup 101; ip rule del fwmark 7 lookup 101; for link in all up2; do sysctl -qw net.ipv4.conf.$link.rp_filter=0; done',
      );
    }
  });

  test('the kernel routes answers as packets of the host, whatever the rules are', async () => {
    let seed = 7;
    const random = (limit: number) => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return Math.floor((seed / 2 ** 31) * limit);
    };
    const pick = <T>(list: readonly T[]) => list[random(list.length)]!;
    const networks = {
      inet: ['198.51.100.0/24', CALLED.inet, '192.0.2.1', '10.0.0.0/8', '192.0.2.0/24'],
      inet6: ['2001:db8:9::/48', CALLED.inet6, 'fd6d::/16', '2001:db8::/32'],
    };
    for (const family of ['inet', 'inet6'] as const) runShell(`ip ${FLAG[family]} rule del priority 1000`);
    let compared = 0;
    for (let round = 0; round < 8; round += 1) {
      for (const family of ['inet', 'inet6'] as const) {
        let priority = 1_000;
        const rules = Array.from({ length: 4 }, () => {
          priority += 1 + random(3);
          const source = `${pick(['', '', 'not '])}from ${pick(networks[family])}`;
          return `${source} ${pick(['lookup 100', 'lookup 101', 'unreachable', 'lookup 102'])} priority ${priority}`;
        });
        const batch = (verb: string) =>
          `printf '%s\\n' ${rules.map((rule) => `'rule ${verb} ${rule}'`).join(' ')} | ip ${FLAG[family]} -batch -`;
        runShell(batch('add'));
        const { isFollowed } = await followHost();
        for (const source of [CALLED[family], ...(family === 'inet' ? ['192.0.2.1'] : [])]) {
          const packet = {
            destination: CLIENT[family],
            protocol: 'udp',
            sourcePort: PORT,
            destinationPort: 40_000,
          } as const;
          const listed = runShell(`ip ${FLAG[family]} rule show`);
          const request = { ...packet, source: CLIENT[family], destination: LB[family], mark: 0 };
          const inbound = await node.kernel.lookUpRoute({ ...request, inputLink: 'up2' });
          assert.equal('link' in inbound && inbound.link, 'mesh0', listed);
          // The rules are few and close: some have no place for a detour, which doctor reports.
          if (!isFollowed) continue;
          compared += 1;
          const own = await node.kernel.lookUpRoute({ ...packet, source, mark: 0 });
          const mark = markFor(source);
          const answer = await node.kernel.lookUpRoute({ ...packet, source: LB[family], inputLink: 'mesh0', mark });
          assert.deepEqual(comparable(answer), comparable(own), `${source} of round ${round}:\n${listed}`);
        }
        runShell(batch('del'));
      }
    }
    assert.ok(compared >= 8, `compared ${compared} times`);
    runShell(`ip netns del far; ip route del default dev underlay0; ip -6 route del default dev underlay0
      for ip in "ip -4" "ip -6"; do $ip route flush table 100; $ip route flush table 101; done`);
    await forgetHost();
    assert.doesNotMatch(runShell('ip rule; ip -6 rule; iptables-save -t mangle'), /proto 109|MESH-PREROUTING/);
  });
}

/** The mark that the chain of the host gives answers of connections to that address, read from the real tool. */
function markFor(address: string): number {
  const command = address.includes(':') ? 'ip6tables' : 'iptables';
  let mark = 0;
  for (const line of runShell(`${command}-save -t mangle`).split('\n')) {
    const [, network = '', value] =
      /^-A MESH-PREROUTING .*--ctorigdst (\S+) -j MARK --set-xmark (\w+)\//.exec(line) ?? [];
    if (value !== undefined && isInside(address, network)) mark = Number(value);
  }
  return mark;
}

function isInside(address: string, network: string): boolean {
  const [base = '', prefix] = network.split('/');
  if (prefix === undefined) return base === address;
  // Only the prefixes above.
  return address.startsWith(base.replace(/(\.0)+$/, '.').replace(/::$/, ':'));
}

function comparable(route: Awaited<ReturnType<typeof node.kernel.lookUpRoute>>): string {
  if ('error' in route) return 'none';
  return `${route.link} ${route.via ?? ''} ${route.table}`;
}
