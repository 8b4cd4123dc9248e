import { familyOf } from './address.ts';
import { hostPrefix } from './block.ts';
import type { KernelObject, KernelState, Op, RealServer, Rule, VirtualService, Vxlan } from './kernel-state.ts';
import { HOST_NETNS, markedPort, ROUTE_PROTOCOL } from './names.ts';
import {
  fastPathFilterCommands,
  fastPathPeerCommands,
  fastPathPortCommands,
  fastPathTaskCommands,
} from './render-shortcut.ts';

/**
 * The one renderer: kernel objects in the words a person would type into a root shell. Every line is a valid command of
 * iproute2, ipset, ipvsadm, iptables or sysctl, run in the host's netns; those of the shortcut (./render-shortcut.ts)
 * only look like it.
 */

/** The commands that make an object where there is none. */
export function renderObject(object: KernelObject): string[] {
  return commands(object, 'create');
}

/** The commands of one step. */
export function renderOp(op: Op): string[] {
  return commands(op.object, op.verb, op.verb === 'change' ? op.before : undefined);
}

/** A whole state, one command a line, ordered by what the objects are; the same state gives the same text. */
export function renderState(state: KernelState): string {
  const keys = [...state.keys()].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  return keys.flatMap((key) => renderObject(state.get(key)!).map((line) => `${line}\n`)).join('');
}

function commands(object: KernelObject, verb: Op['verb'], before?: KernelObject): string[] {
  const { netns } = object;
  const add = { create: 'add', change: 'replace', delete: 'del' }[verb];
  switch (object.kind) {
    case 'netns': {
      const loopback = `${ip(netns)} link set lo ${object.loopbackUp ? 'up' : 'down'}`;
      if (verb === 'delete') return [`ip netns delete ${netns}`];
      return verb === 'change' ? [loopback] : [`ip netns add ${netns}`, ...(object.loopbackUp ? [loopback] : [])];
    }
    case 'veth': {
      const { peer } = object;
      if (verb === 'delete') return [`${ip(netns)} link del ${object.name}`];
      if (verb === 'change') return [setLink(object), setLink(peer)];
      // Not `up` at once: the kernel opens a veth only when its pair is complete (ENOTCONN).
      return [
        `${ip(netns)} link add ${object.name} mtu ${object.mtu} type veth` +
          ` peer name ${peer.name} mtu ${peer.mtu} netns ${netnsArgument(peer.netns)}`,
        ...(object.up ? [`${ip(netns)} link set ${object.name} up`] : []),
        ...(peer.up ? [`${ip(peer.netns)} link set ${peer.name} up`] : []),
      ];
    }
    case 'vxlan':
      return vxlan(object, verb);
    case 'sysctl':
      return verb === 'delete' ? [] : [`${execPrefix(netns)}sysctl -qw ${object.name}=${object.value}`];
    case 'address': {
      // Duplicate address detection would keep a new IPv6 address unusable for a second or two.
      const nodad = familyOf(object.address) === 'inet6' && verb !== 'delete' ? ' nodad' : '';
      return [`${ip(netns)} addr ${add} ${object.address}/${object.prefix} dev ${object.dev}${nodad}`];
    }
    case 'neighbour': {
      const target = verb === 'delete' ? '' : ` lladdr ${object.mac}`;
      const permanent = verb === 'delete' ? '' : ' nud permanent';
      return [`${ip(netns)} neigh ${add} ${object.address}${target} dev ${object.dev}${permanent}`];
    }
    case 'fdb':
      return [
        `${bridge(netns)} fdb ${add} ${object.mac} dev ${object.dev} dst ${object.dst}${object.vni === undefined ? '' : ` vni ${object.vni}`}`,
      ];
    case 'route': {
      const { destination, via, source, table } = object;
      const family = familyOf(destination);
      return [
        [
          `${ip(netns, family)} route ${add}${object.type === 'local' ? ' local' : ''}`,
          destination === '0.0.0.0/0' || destination === '::/0' ? 'default' : destination,
          ...(via === undefined ? [] : [`via ${via}`]),
          `dev ${object.dev}`,
          ...(object.onlink ? ['onlink'] : []),
          ...(table === 254 ? [] : [`table ${table}`]),
          ...(source === undefined ? [] : [`src ${source}`]),
          ...(family === 'inet' ? [`scope ${object.scope}`] : []),
          `proto ${ROUTE_PROTOCOL}`,
        ].join(' '),
      ];
    }
    case 'rule': {
      if (verb === 'change' && before?.kind === 'rule')
        return [...commands(before, 'delete'), ...commands(object, 'create')];
      // Without a mask the kernel compares all bits, but for mark 0: then it compares none (fib_nl2rule).
      const mask = object.fwmask === 0xffffffff && object.fwmark !== 0 ? '' : `/${hex(object.fwmask)}`;
      return [
        `${ip(netns, object.family)} rule ${add} priority ${object.priority}` +
          ` fwmark ${hex(object.fwmark)}${mask} ${action(object)}`,
      ];
    }
    case 'ipset': {
      if (verb === 'delete') return [`${execPrefix(netns)}ipset destroy ${object.name}`];
      const skbinfo = object.skbinfo ? ' skbinfo' : '';
      const shape =
        object.type === 'bitmap:port' ? `range ${object.range.from}-${object.range.to}` : `family ${object.family}`;
      return [`${execPrefix(netns)}ipset create ${object.name} ${object.type} ${shape}${skbinfo}`];
    }
    case 'set-member': {
      const mark = object.mark === undefined || verb === 'delete' ? '' : ` skbmark ${hex(object.mark)}`;
      const ipset = { create: 'add', change: '-exist add', delete: 'del' }[verb];
      return [`${execPrefix(netns)}ipset ${ipset} ${object.set} ${object.port}${mark}`];
    }
    case 'set-entry': {
      const { network, protocol, port, network2 } = object;
      const element = [
        network.endsWith(familyOf(network) === 'inet' ? '/32' : '/128')
          ? network.slice(0, network.indexOf('/'))
          : network,
        ...(port === undefined ? [] : [`${protocol}:${port}`]),
        ...(network2 === undefined ? [] : [network2]),
      ].join(',');
      const ipset = { create: 'add', change: '-exist add', delete: 'del' }[verb];
      const exception = object.foreign?.includes('nomatch') && verb !== 'delete' ? ' nomatch' : '';
      return [`${execPrefix(netns)}ipset ${ipset} ${object.set} ${element}${exception}`];
    }
    case 'chain': {
      const table = `${iptables(netns, object.family)} -t ${object.table}`;
      // A chain with the administrator's rules is never emptied: -X refuses it then.
      if (object.administrator === true) return [`${table} ${verb === 'delete' ? '-X' : '-N'} ${object.chain}`];
      if (verb === 'delete') return [`${table} -F ${object.chain}`, `${table} -X ${object.chain}`];
      const rules = object.rules.map((rule) => `${table} -A ${object.chain} ${rule}`);
      return [`${table} ${verb === 'create' ? '-N' : '-F'} ${object.chain}`, ...rules];
    }
    case 'jump': {
      const old = before?.kind === 'jump' ? commands(before, 'delete') : [];
      const match = object.match === '' ? '' : `${object.match} `;
      const how = verb === 'delete' ? '-D' : object.position === 'first' ? '-I' : '-A';
      return [
        ...old,
        `${iptables(netns, object.family)} -t ${object.table} ${how} ${object.from} ${match}-j ${object.chain}`,
      ];
    }
    case 'ipvs-timeouts':
      return verb === 'delete'
        ? []
        : [`${execPrefix(netns)}ipvsadm --set ${object.tcp} ${object.tcpFin} ${object.udp}`];
    case 'virtual-service': {
      const service = serviceArguments(object);
      if (verb === 'delete') return [`${execPrefix(netns)}ipvsadm -D ${service}`];
      const verbWord = verb === 'create' ? '-A' : '-E';
      return [`${execPrefix(netns)}ipvsadm ${verbWord} ${service} -s ${object.scheduler}${balancingArguments(object)}`];
    }
    case 'fast-path':
      return fastPathFilterCommands(object, verb);
    case 'fast-path-task':
      return fastPathTaskCommands(object, verb);
    case 'fast-path-peer':
      return fastPathPeerCommands(object, verb);
    case 'fast-path-port':
      return fastPathPortCommands(object, verb);
    case 'real-server': {
      const service = serviceArguments(object);
      const server =
        object.family === 'inet6' ? `[${object.address}]:${object.port}` : `${object.address}:${object.port}`;
      if (verb === 'delete') return [`${execPrefix(netns)}ipvsadm -d ${service} -r ${server}`];
      return [
        `${execPrefix(netns)}ipvsadm ${verb === 'create' ? '-a' : '-e'} ${service} -r ${server} -m -w ${object.weight}`,
      ];
    }
  }
}

function vxlan(object: Vxlan, verb: Op['verb']): string[] {
  const { netns, name } = object;
  if (verb === 'delete') return [`${ip(netns)} link del ${name}`];
  const up = object.up ? 'up' : 'down';
  if (verb === 'change') return [`${ip(netns)} link set ${name} address ${object.mac} mtu ${object.mtu} ${up}`];
  // Made from the underlay's netns straight into its own: the UDP socket stays on the underlay.
  return [
    `${ip(object.underlayNetns)} link add ${name} netns ${netnsArgument(netns)} address ${object.mac} mtu ${object.mtu}` +
      `${object.up ? ' up' : ''} type vxlan id ${object.vni} local ${object.local} dstport ${object.port}` +
      `${object.learning ? '' : ' nolearning'}${object.gbp ? ' gbp' : ''}`,
  ];
}

/** `-f 73616 -6`, or `-t 10.252.1.2:8080` of a service found by its address. */
function serviceArguments({ family, fwmark, at }: VirtualService | RealServer): string {
  const named = at === undefined ? undefined : markedPort(fwmark);
  if (named === undefined) return `-f ${fwmark}${family === 'inet6' ? ' -6' : ''}`;
  const option = { tcp: '-t', udp: '-u', sctp: '--sctp-service' }[named.protocol];
  return `${option} ${family === 'inet6' ? `[${at}]` : at}:${named.published}`;
}

/** ` -b mh-port -p 300 -M 255.255.255.0`; the mask of one address is what ipvsadm takes by itself. */
function balancingArguments({ family, flags, persistence }: VirtualService): string {
  const options = flags === undefined ? '' : ` -b ${flags.join(',')}`;
  if (persistence === undefined) return options;
  const { timeout, prefix } = persistence;
  const mask = family === 'inet6' ? `${prefix}` : dottedMask(prefix);
  return `${options} -p ${timeout}${prefix === hostPrefix(family) ? '' : ` -M ${mask}`}`;
}

function dottedMask(prefix: number): string {
  const bits = prefix === 0 ? 0 : (0xffff_ffff << (32 - prefix)) >>> 0;
  return [24, 16, 8, 0].map((shift) => (bits >>> shift) & 0xff).join('.');
}

function setLink(end: { netns: string; name: string; mtu: number; up: boolean }): string {
  return `${ip(end.netns)} link set ${end.name} mtu ${end.mtu} ${end.up ? 'up' : 'down'}`;
}

function action({ action: to }: Rule): string {
  if (to === 'nop') return 'nop';
  return 'lookup' in to ? `lookup ${to.lookup}` : `goto ${to.goto}`;
}

function ip(netns: string, family?: 'inet' | 'inet6'): string {
  return `ip${family === 'inet6' ? ' -6' : ''}${netns === HOST_NETNS ? '' : ` -n ${netns}`}`;
}

function bridge(netns: string): string {
  return netns === HOST_NETNS ? 'bridge' : `bridge -n ${netns}`;
}

function execPrefix(netns: string): string {
  return netns === HOST_NETNS ? '' : `ip netns exec ${netns} `;
}

function iptables(netns: string, family: 'inet' | 'inet6'): string {
  return `${execPrefix(netns)}${family === 'inet6' ? 'ip6tables' : 'iptables'}`;
}

/** The host's netns has no name ip(8) knows; process 1 always lives in it or in a netns its user calls host. */
function netnsArgument(netns: string): string {
  return netns === HOST_NETNS ? '1' : netns;
}

function hex(value: number): string {
  return `0x${(value >>> 0).toString(16)}`;
}
