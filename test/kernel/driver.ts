import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync } from 'node:fs';
import { createServer } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { bindSocket, openSocket } from '../../native/index.ts';
import { silentLog } from '../../src/base/log.ts';
import { diff } from '../../src/diff/diff.ts';
import { type FirewallOp, firewallObjects, formatRestore, parseSave } from '../../src/kernel/firewall-text.ts';
import type { Kernel, Scope } from '../../src/kernel/kernel.ts';
import { openLinuxKernel } from '../../src/kernel/linux.ts';
import { preflight } from '../../src/kernel/preflight.ts';
import type { Assignment } from '../../src/model/assignment.ts';
import {
  type FirewallChain,
  type FirewallJump,
  type KernelObject,
  keyOf,
  type Op,
  type Route,
  type Sysctl,
  stateOf,
} from '../../src/model/kernel-state.ts';
import { portMark } from '../../src/model/names.ts';
import { endpoint, port, task, threeNodes } from '../../src/plan/assignments.test-data.ts';
import { DAMAGE, IPVS_DAMAGE } from './damage.ts';
import { foreignListing, makeForeign } from './foreign.ts';
import { expected, listed } from './listings.ts';
import { replayOnBoth } from './replay.ts';
import { enterStage, NETWORK, pause, sh, TASK, wantOf, withoutIpvs } from './stage.ts';

/**
 * The Linux driver on a real kernel: it builds what a plan of one node of three wants, and the listings of ip, bridge,
 * ipset, ipvsadm and iptables say whether that is there.
 */
enterStage();

const FAMILIES = ['inet', 'inet6'] as const;
const ipvs = { skip: withoutIpvs ? 'left out by MESH_DRIVER_WITHOUT' : false };
const assignment: Assignment = threeNodes(FAMILIES);

let want = wantOf(assignment);
let kernel: Kernel;
let foreign = '';

before(async () => {
  makeForeign();
  foreign = foreignListing();
  kernel = await openLinuxKernel({ log: silentLog(), wanted: () => want });
});

after(() => kernel.close());

describe('the Linux driver', () => {
  test('finds nothing missing on this kernel', ipvs, async () => {
    assert.deepEqual(await preflight(), []);
  });

  test('sees nothing of its own at first', async () => {
    const have = await kernel.observe();
    const made = [...have.values()].filter(({ kind }) => kind !== 'sysctl');
    assert.deepEqual(made, []);
  });

  test('builds a node, and the real tools list it', async () => {
    await reach(want);
    assertListed();
    for (const netns of ['host', 'mesh-lb', NETWORK, TASK]) {
      const settings = [...want.values()].filter(
        (object) => object.kind === 'sysctl' && object.netns === netns,
      ) as Sysctl[];
      const exec = netns === 'host' ? '' : `ip netns exec ${netns} `;
      const values = sh(`${exec}sysctl -n ${settings.map(({ name }) => name).join(' ')}`)
        .trim()
        .split('\n');
      assert.deepEqual(
        values,
        settings.map(({ value }) => value),
      );
    }
    const vxlan = JSON.parse(sh(`ip -n ${NETWORK} -j -d link show vxlan0`))[0];
    assert.equal(vxlan.address, '02:6d:65:73:00:01');
    assert.deepEqual(vxlan.flags.includes('UP'), true);
    const { id, local, port: outer, learning, gbp } = vxlan.linkinfo.info_data;
    assert.deepEqual([id, local, outer, learning, gbp], [4096, '192.0.2.1', 4789, false, true]);
    assert.match(sh('ss -Hlun sport = :4789'), /:4789/, 'its socket stays in the underlay');
  });

  test('takes what is there already for done, after a second look', async () => {
    const again = [...want.values()].map((object): Op => ({ verb: 'create', object }));
    const { failed } = await kernel.apply(again.filter(({ object }) => object.kind !== 'chain'));
    assert.deepEqual(messages(failed), []);
    assert.deepEqual(diff(await kernel.observe(), want), []);
  });

  test('does not take for done what is there and differs', async () => {
    const fdb = one('fdb');
    const route = one('route', ({ via, netns }) => via !== undefined && netns === NETWORK);
    const wrong: Op[] = [
      { verb: 'create', object: { ...fdb, dst: '192.0.2.99' } },
      { verb: 'create', object: { ...route, via: '10.252.1.77' } },
    ];
    const { failed, done } = await kernel.apply(wrong);
    assert.equal(done.length, 0);
    assert.deepEqual(
      failed.map(({ error }) => /EEXIST/.test(error.message)),
      [true, true],
    );
  });

  test('deletes what is not there: done', async () => {
    const gone: Op[] = [
      { verb: 'delete', object: { kind: 'address', netns: NETWORK, dev: 'lb0', address: '10.9.9.9', prefix: 32 } },
      { verb: 'delete', object: { kind: 'address', netns: NETWORK, dev: 'nolink', address: '10.9.9.9', prefix: 32 } },
      { verb: 'delete', object: { kind: 'address', netns: 'mesh-none', dev: 'x', address: '10.9.9.9', prefix: 32 } },
      { verb: 'delete', object: { ...one('route'), destination: '10.9.0.0/16' } },
      {
        verb: 'delete',
        object: { kind: 'fdb', netns: NETWORK, dev: 'vxlan0', mac: '02:00:00:00:00:99', dst: '192.0.2.9' },
      },
      {
        verb: 'delete',
        object: { kind: 'neighbour', netns: NETWORK, dev: 'vxlan0', address: '10.9.9.9', mac: '02:00:00:00:00:99' },
      },
      { verb: 'delete', object: { ...one('rule'), priority: 29_999, fwmark: 9999 } },
      { verb: 'delete', object: { kind: 'set-member', netns: 'host', set: 'mesh-pub-tcp', port: 9 } },
      { verb: 'delete', object: { kind: 'set-member', netns: 'host', set: 'mesh-none', port: 9 } },
      {
        verb: 'delete',
        object: {
          kind: 'ipset',
          netns: 'host',
          name: 'mesh-none',
          type: 'bitmap:port',
          range: { from: 0, to: 1 },
          skbinfo: false,
        },
      },
      { verb: 'delete', object: { kind: 'vxlan', ...vxlanFields(), name: 'vxlan9' } },
      { verb: 'delete', object: { kind: 'netns', netns: 'mesh-none', loopbackUp: true } },
      {
        verb: 'delete',
        object: { kind: 'chain', netns: 'host', family: 'inet', table: 'nat', chain: 'MESH-NONE', rules: [] },
      },
    ];
    if (!withoutIpvs) {
      gone.push(
        {
          verb: 'delete',
          object: {
            kind: 'virtual-service',
            netns: 'mesh-lb',
            family: 'inet',
            fwmark: portMark('tcp', 9),
            scheduler: 'rr',
          },
        },
        { verb: 'delete', object: { ...one('real-server'), port: 9999 } },
      );
    }
    const { failed } = await kernel.apply(gone);
    assert.deepEqual(messages(failed), []);
    assert.deepEqual(diff(await kernel.observe(), want), []);
  });

  test('an added port costs three sends and no iptables run; a real server one send', ipvs, async () => {
    const added = {
      ...assignment,
      ports: [
        ...assignment.ports,
        port('tcp', 9090, [endpoint(1, 1, 'inet', 80), endpoint(2, 1, 'inet', 80), endpoint(1, 1, 'inet6', 80)]),
      ],
    };
    const withPort = await costOf(added);
    assert.deepEqual([withPort.sends, withPort.firewallRuns], [3, 0]);
    const more = structuredClone(added);
    more.ports.at(-1)?.endpoints.push(endpoint(3, 1, 'inet', 80));
    const withServer = await costOf(more);
    assert.deepEqual([withServer.sends, withServer.messages], [1, 1]);
    more.ports.at(-1)!.endpoints.at(-1)!.weight = 0;
    const withWeight = await costOf(structuredClone(more));
    assert.deepEqual([withWeight.sends, withWeight.messages], [1, 1]);
    assert.match(sh('ip netns exec mesh-lb ipvsadm -Sn'), /-r 10\.252\.3\.5:80 -m -w 0/);
    const withoutServer = await costOf(added);
    assert.deepEqual([withoutServer.sends, withoutServer.messages], [1, 1]);
    const counts = await kernel.connections('mesh-lb', [portMark('tcp', 9090)]);
    assert.deepEqual([...counts.keys()].sort(), ['10.252.1.5:80', '10.252.2.5:80', '[fd6d:65:73:1::5]:80']);
    const back = await costOf(assignment);
    assert.deepEqual([back.sends, back.firewallRuns], [3, 0]);
    assert.deepEqual(listed('mesh-lb', { ipvs: true }), expected('mesh-lb', want.values()));
  });

  test('goes on after failures in the middle of a batch, and says what failed and why', async () => {
    const address = (prefix: string, dev: string): Op => ({
      verb: 'create',
      object: { kind: 'address', netns: NETWORK, dev, address: `${prefix}.1`, prefix: 32 },
    });
    const member = (set: string, number: number): Op => ({
      verb: 'create',
      object: { kind: 'set-member', netns: 'host', set, port: number },
    });
    const route = (destination: string, via: string): Op => ({
      verb: 'create',
      object: {
        ...one('route', ({ netns, via: gateway }) => netns === NETWORK && gateway !== undefined),
        destination,
        via,
        onlink: false,
      },
    });
    const good = [
      address('10.1.1', 'lb0'),
      member('mesh-pub-udp', 7001),
      address('10.1.2', 'lb0'),
      member('mesh-pub-udp', 7002),
    ];
    const bad = [address('10.1.3', 'nolink'), member('mesh-none', 7003), route('10.66.0.0/16', '10.99.99.99')];
    const { done, failed } = await kernel.apply([good[0]!, bad[0]!, bad[2]!, good[2]!, good[1]!, bad[1]!, good[3]!]);
    assert.deepEqual(new Set(done), new Set(good));
    assert.deepEqual(new Set(failed.map(({ op }) => op)), new Set(bad));
    const said = messages(failed).join('\n');
    assert.match(said, /ip -n mesh-net-ingress addr add 10\.1\.3\.1\/32 dev nolink: .*nolink/);
    assert.match(said, /ipset add mesh-none 7003: ENOENT/);
    assert.match(said, /route add 10\.66\.0\.0\/16 via 10\.99\.99\.99.*: ENETUNREACH \(.*[Nn]exthop.*\)/);
    await reach(want);
  });

  test('names the module of a scheduler that is not there, and the ones beside it are made', ipvs, async () => {
    const service = (number: number, scheduler: string): Op => ({
      verb: 'create',
      object: { kind: 'virtual-service', netns: 'mesh-lb', family: 'inet', fwmark: portMark('tcp', number), scheduler },
    });
    const { done, failed } = await kernel.apply([service(7001, 'rr'), service(7002, 'nosuch'), service(7003, 'rr')]);
    assert.equal(done.length, 2);
    assert.match(messages(failed).join(), /ipvsadm -A -f 72538 -s nosuch: ENOENT.*modprobe ip_vs_nosuch/);
    await reach(want);
  });

  test('sends thousands of objects in few sends', async () => {
    const routes = Array.from(
      { length: 4000 },
      (_, i): Route => ({
        ...one('route', ({ netns, via }) => netns === NETWORK && via === undefined),
        destination: `10.66.${i >> 8}.${i & 0xff}/32`,
      }),
    );
    const mixed = routes.flatMap((object, i): Op[] => {
      const good: Op = { verb: 'create', object };
      // Every eighth is followed by one that no gateway answers for.
      return i % 8 === 0 ? [good, { verb: 'create', object: { ...object, via: '10.250.0.1' } }] : [good];
    });
    const report = await kernel.apply(mixed);
    assert.equal(report.done.length, routes.length);
    assert.equal(report.failed.length, routes.length / 8);
    assert.ok(report.sends < 20, `${report.sends} sends`);
    assert.equal(sh(`ip -n ${NETWORK} -4 route show proto 109 dev lb0 | grep -c '^10.66'`).trim(), '4000');
    await reach(want);
  });

  describe('repairs what was changed by hand', () => {
    for (const [name, command] of DAMAGE) test(name, () => repair(command));
    for (const [name, command] of IPVS_DAMAGE) test(name, ipvs, () => repair(command));
    test('and at the end the real tools list what is wanted', assertListed);
  });

  test('the model kernel goes the same way under the same hands', () => replayOnBoth(kernel, want));

  test('reads and writes iptables-legacy as well', () => {
    const place = { netns: 'host', family: 'inet', table: 'mangle' } as const;
    const jump: FirewallJump = {
      kind: 'jump',
      ...place,
      from: 'FORWARD',
      chain: 'MESH-T',
      match: '',
      position: 'first',
    };
    const rules = ['-i lb0 -o vxlan0 -j MARK --set-xmark 0x1/0xffffffff', '-j RETURN'];
    const chain: FirewallChain = { kind: 'chain', ...place, chain: 'MESH-T', rules };
    const ops: FirewallOp[] = [
      { verb: 'create', object: chain },
      { verb: 'create', object: jump },
    ];
    const save = () => parseSave(sh('iptables-legacy-save -t mangle'));
    const restore = (steps: readonly FirewallOp[]) => {
      const input = formatRestore(steps, save());
      execFileSync('iptables-legacy-restore', ['--noflush', '-w'], { input });
      return firewallObjects('host', 'inet', save(), () => undefined);
    };
    const byKind = (objects: readonly KernelObject[]) => objects.map(({ kind }) => kind).sort();
    for (let i = 0; i < 2; i++) {
      const found = restore(ops);
      assert.deepEqual(byKind(found), ['chain', 'jump']);
      for (const { object } of ops)
        assert.deepEqual(
          found.find(({ kind }) => kind === object.kind),
          object,
        );
    }
    assert.deepEqual(restore(ops.map(({ object }) => ({ verb: 'delete', object }) as FirewallOp)), []);
  });

  test('hears what others change, where and what; its own work wakes nobody', async () => {
    const scopes: Scope[] = [];
    const stop = kernel.watch((scope) => scopes.push(scope));
    const heard = async (what: string, is: (scope: Scope) => boolean) => {
      for (let i = 0; i < 200 && !scopes.some(is); i++) await pause(50);
      assert.ok(scopes.some(is), `${what}: ${JSON.stringify(scopes)}`);
    };
    const about = (netns: string, kind: KernelObject['kind']) => (scope: Scope) =>
      (scope.netns?.includes(netns) ?? true) && (scope.kinds?.includes(kind) ?? true);
    try {
      // Everything the driver can do, then something foreign: the first that is heard must be the foreign one.
      const task2 = task('bbbbbbbbbbbb', 1, 2, FAMILIES);
      await costOf({ ...assignment, tasks: [...assignment.tasks, task2], peers: assignment.peers.slice(1) });
      await costOf(assignment);
      sh(`ip -n ${NETWORK} neigh del 10.252.2.0 dev vxlan0`);
      await heard('a deleted neighbour', about(NETWORK, 'neighbour'));
      assert.deepEqual(scopes, [{ netns: [NETWORK], kinds: ['neighbour'] }]);
      await reach(want);

      const cases: [string, string, string, KernelObject['kind']][] = [
        [`ip -n ${TASK} addr flush dev eth0`, 'addresses', TASK, 'address'],
        [`ip -n ${NETWORK} route del 10.252.2.0/24`, 'a route', NETWORK, 'route'],
        [`ip -n ${NETWORK} rule del priority 10002`, 'a rule', NETWORK, 'rule'],
        [`bridge -n ${NETWORK} fdb del 02:6d:65:73:00:02 dev vxlan0`, 'a forwarding entry', NETWORK, 'fdb'],
        ['ip -n mesh-lb link set host0 mtu 1400', 'the far end of a pair, told for its near end', 'host', 'veth'],
        [`ip -n ${NETWORK} link del vxlan0`, 'a vxlan device', NETWORK, 'vxlan'],
        ['ip link del mesh0', "the host's veth", 'host', 'veth'],
        [`ip netns del ${TASK}`, 'a netns', TASK, 'netns'],
        ['ip netns add mesh-task-new', 'a new netns', 'mesh-task-new', 'netns'],
        ['ip -n mesh-lb link set lo down', 'loopback', 'mesh-lb', 'netns'],
      ];
      if (sh('iptables -V').includes('nf_tables')) {
        cases.push(['iptables -t nat -F MESH-OUTPUT', 'a chain', 'host', 'chain']);
        cases.push(['iptables -t nat -D OUTPUT -j MESH-OUTPUT', 'a jump', 'host', 'jump']);
      }
      for (const [command, what, netns, kind] of cases) {
        scopes.length = 0;
        sh(command);
        await heard(what, about(netns, kind));
        await reach(want);
      }
    } finally {
      stop();
    }
  });

  test('lists who listens in a netns', async () => {
    const path = kernel.netnsPath(TASK);
    const tcp = openSocket({ netns: path, type: 1 });
    bindSocket(tcp, '10.252.1.5', 8000);
    const udp = openSocket({ netns: path, family: 10, type: 2 });
    bindSocket(udp, '::', 5300);
    const server = createServer().listen({ fd: tcp });
    await new Promise((resolve) => server.once('listening', resolve));
    const found = await kernel.listeners(TASK);
    assert.deepEqual(found.map(({ protocol, address, port: number }) => `${protocol} ${address} ${number}`).sort(), [
      'tcp 10.252.1.5 8000',
      'udp :: 5300',
    ]);
    server.close();
    closeSync(udp);
  });

  test('removes everything of its own and nothing else', async () => {
    want = new Map();
    await reach(want);
    assert.match(sh('ip netns list').trim(), /^foreign\b[^\n]*$/);
    assert.deepEqual([...(await kernel.observe()).keys()], []);
    assert.doesNotMatch(
      sh('iptables-save; ip6tables-save; ipset save; ip link; ip -d route; ip -6 route'),
      /mesh|MESH|proto 109/,
    );
    assert.equal(foreignListing(), foreign);
  });
});

/** Brings the kernel to a state in one diff and apply, and checks that a fresh look agrees. */
async function reach(state: ReadonlyMap<string, KernelObject>): Promise<void> {
  const { failed } = await kernel.apply(diff(await kernel.observe(), state));
  assert.deepEqual(messages(failed), []);
  const left = diff(await kernel.observe(), state);
  assert.deepEqual(
    left.map(({ verb, object }) => `${verb} ${keyOf(object)}`),
    [],
  );
}

/** What a change of the assignment costs when only what it changes is diffed. */
async function costOf(next: Assignment): Promise<Awaited<ReturnType<Kernel['apply']>>> {
  const target = wantOf(next);
  const report = await kernel.apply(diff(stateOf(want.values()), target));
  want = target;
  assert.deepEqual(messages(report.failed), []);
  assert.deepEqual(diff(await kernel.observe(), want), []);
  return report;
}

async function repair(command: string): Promise<void> {
  sh(command);
  assert.notDeepEqual(diff(await kernel.observe(), want), [], 'the damage is not seen');
  // Deleting a netns by hand ends its links later than the command; a repair may need a second go.
  for (let i = 0; i < 100; i++) {
    const { failed } = await kernel.apply(diff(await kernel.observe(), want));
    if (failed.length === 0 && diff(await kernel.observe(), want).length === 0) break;
    await pause(50);
  }
  await reach(want);
}

function assertListed(): void {
  for (const netns of ['host', 'mesh-lb', NETWORK, TASK]) {
    assert.deepEqual(listed(netns, { ipvs: !withoutIpvs }), expected(netns, want.values()), netns);
  }
}

function messages(failed: readonly { error: Error }[]): string[] {
  return failed.map(({ error }) => error.message);
}

function one<K extends KernelObject['kind']>(
  kind: K,
  fits: (object: Extract<KernelObject, { kind: K }>) => boolean = () => true,
): Extract<KernelObject, { kind: K }> {
  for (const object of want.values()) {
    if (object.kind !== kind) continue;
    const candidate = object as Extract<KernelObject, { kind: K }>;
    if (fits(candidate)) return candidate;
  }
  throw new Error(`no ${kind} is wanted`);
}

function vxlanFields(): Omit<Extract<KernelObject, { kind: 'vxlan' }>, 'kind'> {
  const { kind: _, ...fields } = one('vxlan');
  return fields;
}
