import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Op } from './kernel-state.ts';
import { stateOf } from './kernel-state.ts';
import { parseFirewallRule } from './kinds/parse-firewall-rule.ts';
import type { KernelObject } from './kinds/registry.ts';
import { renderObject, renderOp, renderState } from './render.ts';
import { stateFromJson, stateToJson } from './state-json.ts';

const ANSWER_RULE =
  'priority 1000 from 10.252.1.2 to 192.0.2.0/24 fwmark 0x1000000/0x3f000000 ipproto 6 sport 8080 dport 1-9 lookup 100 suppress_prefixlength 0 protocol 109';

/** One object of each kind, with the commands that create, change and delete it. */
const CASES: [KernelObject, string[], string[], string[]][] = [
  [
    { kind: 'netns', netns: 'mesh-lb', loopbackUp: true },
    ['ip netns add mesh-lb', 'ip -n mesh-lb link set lo up'],
    ['ip -n mesh-lb link set lo up'],
    ['ip netns delete mesh-lb'],
  ],
  [
    {
      kind: 'veth',
      netns: 'host',
      name: 'mesh0',
      mtu: 1450,
      up: true,
      peer: { netns: 'mesh-lb', name: 'host0', mtu: 1450, up: true },
    },
    [
      'ip link add mesh0 mtu 1450 type veth peer name host0 mtu 1450 netns mesh-lb',
      'ip link set mesh0 up',
      'ip -n mesh-lb link set host0 up',
    ],
    ['ip link set mesh0 mtu 1450 up', 'ip -n mesh-lb link set host0 mtu 1450 up'],
    ['ip link del mesh0'],
  ],
  [
    {
      kind: 'vxlan',
      netns: 'mesh-net-a',
      name: 'vxlan0',
      underlayNetns: 'host',
      vni: 4096,
      local: '192.0.2.1',
      port: 4789,
      mac: '02:6d:65:73:00:01',
      mtu: 1450,
      up: true,
      gbp: true,
      learning: false,
    },
    [
      'ip link add vxlan0 netns mesh-net-a address 02:6d:65:73:00:01 mtu 1450 up type vxlan id 4096 local 192.0.2.1 dstport 4789 nolearning gbp',
    ],
    ['ip -n mesh-net-a link set vxlan0 address 02:6d:65:73:00:01 mtu 1450 up'],
    ['ip -n mesh-net-a link del vxlan0'],
  ],
  [
    { kind: 'sysctl', netns: 'mesh-lb', name: 'net.ipv4.ip_forward', value: '1' },
    ['ip netns exec mesh-lb sysctl -qw net.ipv4.ip_forward=1'],
    ['ip netns exec mesh-lb sysctl -qw net.ipv4.ip_forward=1'],
    [],
  ],
  [
    { kind: 'address', netns: 'mesh-lb', dev: 'host0', address: 'fd6d::2', prefix: 128 },
    ['ip -n mesh-lb addr add fd6d::2/128 dev host0 nodad'],
    ['ip -n mesh-lb addr replace fd6d::2/128 dev host0 nodad'],
    ['ip -n mesh-lb addr del fd6d::2/128 dev host0'],
  ],
  [
    { kind: 'neighbour', netns: 'mesh-net-a', dev: 'vxlan0', address: '10.252.2.0', mac: '02:6d:65:73:00:02' },
    ['ip -n mesh-net-a neigh add 10.252.2.0 lladdr 02:6d:65:73:00:02 dev vxlan0 nud permanent'],
    ['ip -n mesh-net-a neigh replace 10.252.2.0 lladdr 02:6d:65:73:00:02 dev vxlan0 nud permanent'],
    ['ip -n mesh-net-a neigh del 10.252.2.0 dev vxlan0'],
  ],
  [
    { kind: 'fdb', netns: 'mesh-net-a', dev: 'vxlan0', mac: '02:6d:65:73:00:02', dst: '192.0.2.2' },
    ['bridge -n mesh-net-a fdb add 02:6d:65:73:00:02 dev vxlan0 dst 192.0.2.2'],
    ['bridge -n mesh-net-a fdb replace 02:6d:65:73:00:02 dev vxlan0 dst 192.0.2.2'],
    ['bridge -n mesh-net-a fdb del 02:6d:65:73:00:02 dev vxlan0 dst 192.0.2.2'],
  ],
  [
    {
      kind: 'route',
      netns: 'mesh-net-a',
      type: 'unicast',
      destination: '::/0',
      table: 100_002,
      dev: 'vxlan0',
      via: 'fd6d:2::',
      onlink: true,
      scope: 'global',
    },
    ['ip -6 -n mesh-net-a route add default via fd6d:2:: dev vxlan0 onlink table 100002 proto 109'],
    ['ip -6 -n mesh-net-a route replace default via fd6d:2:: dev vxlan0 onlink table 100002 proto 109'],
    ['ip -6 -n mesh-net-a route del default via fd6d:2:: dev vxlan0 onlink table 100002 proto 109'],
  ],
  [
    {
      kind: 'rule',
      netns: 'mesh-net-a',
      family: 'inet',
      priority: 10_002,
      fwmark: 2,
      fwmask: 0xff,
      action: { goto: 11_000 },
    },
    ['ip -n mesh-net-a rule add priority 10002 fwmark 0x2/0xff goto 11000'],
    [
      'ip -n mesh-net-a rule del priority 10002 fwmark 0x2/0xff goto 11000',
      'ip -n mesh-net-a rule add priority 10002 fwmark 0x2/0xff goto 11000',
    ],
    ['ip -n mesh-net-a rule del priority 10002 fwmark 0x2/0xff goto 11000'],
  ],
  [
    {
      kind: 'host-rule',
      netns: 'host',
      family: 'inet',
      priority: 1_000,
      source: '10.252.1.2/32',
      destination: '192.0.2.0/24',
      fwmark: 0x100_0000,
      fwmask: 0x3f00_0000,
      ipProtocol: 6,
      sourcePorts: { from: 8080, to: 8080 },
      destinationPorts: { from: 1, to: 9 },
      suppressPrefix: 0,
      action: { lookup: 100 },
    },
    [`ip rule add ${ANSWER_RULE}`],
    [`ip rule del ${ANSWER_RULE}`, `ip rule add ${ANSWER_RULE}`],
    [`ip rule del ${ANSWER_RULE}`],
  ],
  [
    {
      kind: 'ipset',
      netns: 'mesh-lb',
      name: 'mesh-svc-tcp',
      type: 'bitmap:port',
      range: { from: 0, to: 65_535 },
      skbinfo: true,
    },
    ['ip netns exec mesh-lb ipset create mesh-svc-tcp bitmap:port range 0-65535 skbinfo'],
    ['ip netns exec mesh-lb ipset create mesh-svc-tcp bitmap:port range 0-65535 skbinfo'],
    ['ip netns exec mesh-lb ipset destroy mesh-svc-tcp'],
  ],
  [
    { kind: 'set-member', netns: 'mesh-lb', set: 'mesh-svc-tcp', port: 8080, mark: 0x11f90 },
    ['ip netns exec mesh-lb ipset add mesh-svc-tcp 8080 skbmark 0x11f90'],
    ['ip netns exec mesh-lb ipset -exist add mesh-svc-tcp 8080 skbmark 0x11f90'],
    ['ip netns exec mesh-lb ipset del mesh-svc-tcp 8080'],
  ],
  [
    {
      kind: 'ipset',
      netns: 'host',
      name: 'mesh-from-6',
      type: 'hash:net,port,net',
      family: 'inet6',
      skbinfo: false,
    },
    ['ipset create mesh-from-6 hash:net,port,net family inet6'],
    ['ipset create mesh-from-6 hash:net,port,net family inet6'],
    ['ipset destroy mesh-from-6'],
  ],
  [
    {
      kind: 'set-entry',
      netns: 'host',
      set: 'mesh-from-6',
      network: '2001:db8::7/128',
      protocol: 'sctp',
      port: 9,
      network2: '::/1',
    },
    ['ipset add mesh-from-6 2001:db8::7,sctp:9,::/1'],
    ['ipset -exist add mesh-from-6 2001:db8::7,sctp:9,::/1'],
    ['ipset del mesh-from-6 2001:db8::7,sctp:9,::/1'],
  ],
  [
    {
      kind: 'set-entry',
      netns: 'host',
      set: 'mesh-at-4',
      network: '192.0.2.0/24',
      protocol: 136,
      port: 9,
      foreign: ['nomatch'],
    },
    ['ipset add mesh-at-4 192.0.2.0/24,136:9 nomatch'],
    ['ipset -exist add mesh-at-4 192.0.2.0/24,136:9 nomatch'],
    ['ipset del mesh-at-4 192.0.2.0/24,136:9'],
  ],
  [
    {
      kind: 'chain',
      netns: 'host',
      family: 'inet',
      table: 'filter',
      chain: 'MESH-USER',
      rules: [parseFirewallRule('-j DROP')],
      administrator: true,
    },
    ['iptables -t filter -N MESH-USER'],
    ['iptables -t filter -N MESH-USER'],
    ['iptables -t filter -X MESH-USER'],
  ],
  [
    {
      kind: 'chain',
      netns: 'host',
      family: 'inet6',
      table: 'nat',
      chain: 'MESH-X',
      rules: ['-i a -j RETURN', '-j DROP'].map(parseFirewallRule),
    },
    ['ip6tables -t nat -N MESH-X', 'ip6tables -t nat -A MESH-X -i a -j RETURN', 'ip6tables -t nat -A MESH-X -j DROP'],
    ['ip6tables -t nat -F MESH-X', 'ip6tables -t nat -A MESH-X -i a -j RETURN', 'ip6tables -t nat -A MESH-X -j DROP'],
    ['ip6tables -t nat -F MESH-X', 'ip6tables -t nat -X MESH-X'],
  ],
  [
    {
      kind: 'jump',
      netns: 'mesh-lb',
      family: 'inet',
      table: 'mangle',
      from: 'PREROUTING',
      chain: 'MESH-X',
      match: '-i host0',
      position: 'first',
    },
    ['ip netns exec mesh-lb iptables -t mangle -I PREROUTING -i host0 -j MESH-X'],
    [
      'ip netns exec mesh-lb iptables -t mangle -D PREROUTING -i host0 -j MESH-X',
      'ip netns exec mesh-lb iptables -t mangle -I PREROUTING -i host0 -j MESH-X',
    ],
    ['ip netns exec mesh-lb iptables -t mangle -D PREROUTING -i host0 -j MESH-X'],
  ],
  [
    { kind: 'ipvs-timeouts', netns: 'mesh-lb', tcp: 10_800, tcpFin: 120, udp: 120 },
    ['ip netns exec mesh-lb ipvsadm --set 10800 120 120'],
    ['ip netns exec mesh-lb ipvsadm --set 10800 120 120'],
    [],
  ],
  [
    {
      kind: 'virtual-service',
      netns: 'mesh-lb',
      family: 'inet',
      fwmark: 73_617,
      scheduler: 'mh',
      flags: ['mh-fallback', 'mh-port'],
      persistence: { timeout: 300, prefix: 22 },
      servers: ['10.252.1.5 80', '10.252.2.5 80'],
    },
    ['ip netns exec mesh-lb ipvsadm -A -f 73617 -s mh -b mh-fallback,mh-port -p 300 -M 255.255.252.0'],
    ['ip netns exec mesh-lb ipvsadm -E -f 73617 -s mh -b mh-fallback,mh-port -p 300 -M 255.255.252.0'],
    ['ip netns exec mesh-lb ipvsadm -D -f 73617'],
  ],
  [
    {
      kind: 'virtual-service',
      netns: 'mesh-lb',
      family: 'inet6',
      fwmark: 73_617,
      scheduler: 'sh',
      flags: ['sh-fallback'],
      persistence: { timeout: 60, prefix: 64 },
      servers: [],
    },
    ['ip netns exec mesh-lb ipvsadm -A -f 73617 -6 -s sh -b sh-fallback -p 60 -M 64'],
    ['ip netns exec mesh-lb ipvsadm -E -f 73617 -6 -s sh -b sh-fallback -p 60 -M 64'],
    ['ip netns exec mesh-lb ipvsadm -D -f 73617 -6'],
  ],
  [
    { kind: 'virtual-service', netns: 'mesh-lb', family: 'inet6', fwmark: 73_616, scheduler: 'rr' },
    ['ip netns exec mesh-lb ipvsadm -A -f 73616 -6 -s rr'],
    ['ip netns exec mesh-lb ipvsadm -E -f 73616 -6 -s rr'],
    ['ip netns exec mesh-lb ipvsadm -D -f 73616 -6'],
  ],
  [
    { kind: 'real-server', netns: 'mesh-lb', family: 'inet6', fwmark: 73_616, address: 'fd6d::5', port: 80, weight: 1 },
    ['ip netns exec mesh-lb ipvsadm -a -f 73616 -6 -r [fd6d::5]:80 -m -w 1'],
    ['ip netns exec mesh-lb ipvsadm -e -f 73616 -6 -r [fd6d::5]:80 -m -w 1'],
    ['ip netns exec mesh-lb ipvsadm -d -f 73616 -6 -r [fd6d::5]:80'],
  ],
  [
    {
      kind: 'fast-path',
      netns: 'host',
      link: 'eth0',
      program: { type: 'host-in', address: '192.0.2.1', lb: 'mesh0', router: 'mesh1', vni: 4096, number: 2 },
    },
    [
      'tc filter add dev eth0 ingress pref 4096 handle 1 bpf direct-action object mesh-host-in # address 192.0.2.1, lb mesh0, router mesh1, vni 4096, number 2',
    ],
    [
      'tc filter replace dev eth0 ingress pref 4096 handle 1 bpf direct-action object mesh-host-in # address 192.0.2.1, lb mesh0, router mesh1, vni 4096, number 2',
    ],
    ['tc filter del dev eth0 ingress pref 4096'],
  ],
  [
    {
      kind: 'fast-path',
      netns: 'host',
      link: 'eth0',
      egress: true,
      program: { type: 'host-sent', address: '192.0.2.1', lb: 'mesh0' },
    },
    [
      'tc qdisc add dev eth0 clsact',
      'tc filter add dev eth0 egress pref 4096 handle 1 bpf direct-action object mesh-host-sent # address 192.0.2.1, lb mesh0',
    ],
    [
      'tc filter replace dev eth0 egress pref 4096 handle 1 bpf direct-action object mesh-host-sent # address 192.0.2.1, lb mesh0',
    ],
    ['tc filter del dev eth0 egress pref 4096'],
  ],
  [
    {
      kind: 'fast-path',
      netns: 'mesh-net-a',
      link: 't-aaaaaaaaaaaa',
      program: { type: 'task-out', vxlan: 'vxlan0', lb: 'lb0', number: 3 },
    },
    [
      'tc -n mesh-net-a qdisc add dev t-aaaaaaaaaaaa clsact',
      'tc -n mesh-net-a filter add dev t-aaaaaaaaaaaa ingress pref 4096 handle 1 bpf direct-action object mesh-task-out # vxlan vxlan0, lb lb0, number 3',
    ],
    [
      'tc -n mesh-net-a filter replace dev t-aaaaaaaaaaaa ingress pref 4096 handle 1 bpf direct-action object mesh-task-out # vxlan vxlan0, lb lb0, number 3',
    ],
    ['tc -n mesh-net-a filter del dev t-aaaaaaaaaaaa ingress pref 4096'],
  ],
  [
    { kind: 'fast-path-task', netns: 'mesh-net-a', address: '10.252.1.5', link: 't-aaaaaaaaaaaa' },
    ['ip netns exec mesh-net-a bpftool map update name mesh_tasks key 10 252 1 5 value t-aaaaaaaaaaaa'],
    ['ip netns exec mesh-net-a bpftool map update name mesh_tasks key 10 252 1 5 value t-aaaaaaaaaaaa'],
    ['ip netns exec mesh-net-a bpftool map delete name mesh_tasks key 10 252 1 5'],
  ],
  [
    { kind: 'fast-path-port', netns: 'host', mark: 0x20035 },
    ['bpftool map update name mesh_ports key 53 0 2 0 value 1 0 0 0'],
    ['bpftool map update name mesh_ports key 53 0 2 0 value 1 0 0 0'],
    ['bpftool map delete name mesh_ports key 53 0 2 0'],
  ],
  [
    { kind: 'fast-path-peer', netns: 'host', address: '192.0.2.2' },
    ['bpftool map update name mesh_peers key 192 0 2 2 value 1'],
    ['bpftool map update name mesh_peers key 192 0 2 2 value 1'],
    ['bpftool map delete name mesh_peers key 192 0 2 2'],
  ],
];

describe('render', () => {
  it.each(CASES.map(([object, ...words]) => [object.kind, object, ...words] as const))(
    'says %s in the words of its tool',
    (_, object, create, change, remove) => {
      expect(renderObject(object)).toEqual(create);
      expect(renderOp({ verb: 'create', object })).toEqual(create);
      expect(renderOp({ verb: 'change', object, before: object } as Op)).toEqual(change);
      expect(renderOp({ verb: 'delete', object })).toEqual(remove);
    },
  );

  it('renders equal states to equal text, for any order of insertion', () => {
    const objects = CASES.map(([object]) => object);
    expect(renderState(stateOf(objects))).toBe(renderState(stateOf([...objects].reverse())));
  });
});

describe('a state as JSON', () => {
  it('survives a round trip', () => {
    const state = stateOf(CASES.map(([object]) => object));
    expect(stateFromJson(stateToJson(state))).toEqual({ ok: true, value: state });
    expect(stateFromJson(stateToJson(new Map()))).toEqual({ ok: true, value: new Map() });
  });

  it('names the first fault of an invalid state', () => {
    const message = (text: string) => {
      const result = stateFromJson(text);
      return result.ok ? undefined : result.error.message;
    };
    expect(message('{')).toMatch(/not JSON/);
    expect(message('{}')).toMatch(/array/);
    expect(message('["x"]')).toBe('object 1 of the state: is not an object');
    expect(message('[{"kind":"netns"}]')).toMatch(/"netns" of a kernel object/);
    expect(message('[{"kind":"netns","netns":"a","loopbackUp":1}]')).toMatch(/"loopbackUp" of a netns/);
  });

  it('ignores kinds and fields that another version may have', () => {
    const known = { kind: 'netns', netns: 'mesh-lb', loopbackUp: true };
    const json = JSON.stringify([
      { kind: 'toString', netns: 'mesh-lb' },
      { ...known, cgroup: '/mesh' },
    ]);
    expect(stateFromJson(json)).toEqual({ ok: true, value: stateOf([known as KernelObject]) });
  });

  it('never throws when a field is missing, or is that of another object of its kind', () => {
    const objects = CASES.map(([object]) => object as unknown as Record<string, unknown>);
    for (const object of objects) {
      const others = objects.filter(({ kind }) => kind === object['kind']);
      for (const name of new Set(others.flatMap(Object.keys))) {
        for (const value of new Set([undefined, ...others.map((other) => other[name])])) {
          const result = stateFromJson(JSON.stringify([{ ...object, [name]: value }]));
          if (result.ok) for (const read of result.value.values()) renderObject(read);
        }
      }
    }
  });

  it('never throws, whatever is damaged in it', () => {
    const text = stateToJson(stateOf(CASES.map(([object]) => object)));
    fc.assert(
      fc.property(fc.nat(text.length), fc.string({ maxLength: 3 }), fc.nat(9), (at, piece, cut) => {
        const result = stateFromJson(text.slice(0, at) + piece + text.slice(at + cut));
        if (result.ok) for (const object of result.value.values()) renderObject(object);
      }),
      { numRuns: 500 },
    );
  });
});
