import type { Cidr, Family, IpAddress, MacAddress, Protocol } from './address.ts';
import type { SchedulerFlag } from './spec.ts';

/**
 * The kernel as data. `want` (planned) and `have` (observed) are both a KernelState, so they can be compared,
 * printed by one renderer and replayed. `netns` is a name of model/names.ts; `host` is the netns meshd runs in.
 */
export type KernelObject =
  | Netns
  | VethPair
  | Vxlan
  | Sysctl
  | AddressObject
  | Neighbour
  | FdbEntry
  | Route
  | Rule
  | IpSet
  | SetMember
  | SetEntry
  | FirewallChain
  | FirewallJump
  | IpvsTimeouts
  | VirtualService
  | RealServer
  | FastPathFilter
  | FastPathTask
  | FastPathPort
  | FastPathPeer;

export type ObjectKind = KernelObject['kind'];

/** What every kernel object has. */
export interface ObjectBase {
  netns: string;
  /**
   * What another program did to an object under a name of ours and no other field can hold, in the words of its tool:
   * `['pe sip']`, `['metric 50']`. Only observed objects have it, so they differ from every planned one and are
   * repaired. One word or phrase for each deviation; of routes one for each route that has to be deleted.
   */
  foreign?: readonly string[];
}

/** A named network namespace with its loopback up. */
export interface Netns extends ObjectBase {
  kind: 'netns';
  netns: string;
  loopbackUp: boolean;
}

/** Both ends of a veth pair: one object, for the kernel makes and destroys them together. Identity: `netns` + `name`. */
export interface VethPair extends ObjectBase {
  kind: 'veth';
  netns: string;
  name: string;
  mtu: number;
  up: boolean;
  peer: { netns: string; name: string; mtu: number; up: boolean };
}

/** Lives in `netns`; its UDP socket stays in `underlayNetns`. Learning off, group policy (GBP) on. */
export interface Vxlan extends ObjectBase {
  kind: 'vxlan';
  netns: string;
  name: string;
  underlayNetns: string;
  vni: number;
  local: IpAddress;
  port: number;
  mac: MacAddress;
  mtu: number;
  up: boolean;
  gbp: boolean;
  learning: boolean;
}

export interface Sysctl extends ObjectBase {
  kind: 'sysctl';
  netns: string;
  /** Dotted name; a dot inside an interface name is written `/`, as sysctl(8) does. */
  name: string;
  value: string;
}

export interface AddressObject extends ObjectBase {
  kind: 'address';
  netns: string;
  dev: string;
  address: IpAddress;
  prefix: number;
}

/** A permanent neighbour entry. */
export interface Neighbour extends ObjectBase {
  kind: 'neighbour';
  netns: string;
  dev: string;
  address: IpAddress;
  mac: MacAddress;
}

/** Where a VXLAN device sends frames for a MAC address; `vni` when it is not the device's own, as in all of ours. */
export interface FdbEntry extends ObjectBase {
  kind: 'fdb';
  netns: string;
  dev: string;
  mac: MacAddress;
  dst: IpAddress;
  vni?: number;
}

export interface Route extends ObjectBase {
  kind: 'route';
  netns: string;
  type: 'unicast' | 'local';
  /** `0.0.0.0/0` and `::/0` for default. */
  destination: Cidr;
  /** 254 is main. */
  table: number;
  dev: string;
  via?: IpAddress;
  onlink: boolean;
  scope: 'global' | 'link' | 'host';
  source?: IpAddress;
}

/** The kernel tells rules apart by all they say, so they are never changed: several may have one priority. */
export interface Rule extends ObjectBase {
  kind: 'rule';
  netns: string;
  family: Family;
  priority: number;
  fwmark: number;
  fwmask: number;
  action: { lookup: number } | { goto: number } | 'nop';
}

export type IpSet = PortSet | HashSet;

interface PortSet extends ObjectBase {
  kind: 'ipset';
  netns: string;
  name: string;
  type: 'bitmap:port';
  range: { from: number; to: number };
  skbinfo: boolean;
}

/** Its elements are `set-entry`, those of a bitmap:port `set-member`. */
export interface HashSet extends ObjectBase {
  kind: 'ipset';
  netns: string;
  name: string;
  type: 'hash:ip' | 'hash:net,port' | 'hash:net,port,net';
  family: Family;
  skbinfo: boolean;
}

export interface SetMember extends ObjectBase {
  kind: 'set-member';
  netns: string;
  set: string;
  port: number;
  /** Mark handed to the packet; the mask is 0xffffffff. Only in sets with skbinfo. */
  mark?: number;
}

/** An element of a hash set; which fields it has depends on the set's type. ipset has no /0: add both halves. */
export interface SetEntry extends ObjectBase {
  kind: 'set-entry';
  netns: string;
  set: string;
  /** One address is a network of full prefix length. */
  network: Cidr;
  /** A number is one only somebody else could have put there. */
  protocol?: Protocol | number;
  port?: number;
  /** The last dimension of hash:net,port,net. */
  network2?: Cidr;
}

/** A whole chain of ours, rules in the words of iptables-save without `-A CHAIN`. */
export interface FirewallChain extends ObjectBase {
  kind: 'chain';
  netns: string;
  family: Family;
  table: 'raw' | 'mangle' | 'nat' | 'filter';
  chain: string;
  rules: string[];
  /** Ours is only that it is there: its rules are the administrator's, neither compared nor touched. */
  administrator?: true;
}

/** The rule in a built-in chain that leads into a chain of ours. */
export interface FirewallJump extends ObjectBase {
  kind: 'jump';
  netns: string;
  family: Family;
  table: 'raw' | 'mangle' | 'nat' | 'filter';
  from: string;
  chain: string;
  /** Matches before `-j`, in iptables-save words, often empty. */
  match: string;
  position: 'first' | 'last';
}

/** Idle times of connections in one netns, seconds (IPVS_CMD_SET_CONFIG). */
interface IpvsTimeouts extends ObjectBase {
  kind: 'ipvs-timeouts';
  netns: string;
  tcp: number;
  tcpFin: number;
  udp: number;
}

/** Which IPVS service: the one of a fwmark, or the one of an address with the protocol and port the mark stands for. */
interface ServiceIdentity {
  netns: string;
  family: Family;
  fwmark: number;
  /**
   * Of persistent services: found by mark, they would send clients to the port they asked for, whatever the real
   * server's port is (ip_vs_sched_persist).
   */
  at?: IpAddress;
}

/** An IPVS service. */
export interface VirtualService extends ObjectBase, ServiceIdentity {
  kind: 'virtual-service';
  scheduler: string;
  /** In the order of SCHEDULER_FLAGS; absent when there is none. */
  flags?: SchedulerFlag[];
  /** A client stays with its real server, all clients of one prefix length as one, for so many idle seconds. */
  persistence?: { timeout: number; prefix: number };
  /**
   * The keys of its real servers (`serverKey`), from the oldest to the newest; only of schedulers that hash, for what
   * they pick depends on it (ip_vs_sh_reassign, ip_vs_mh_populate walk `svc->destinations`).
   */
  servers?: string[];
}

/** A real server of such a service, forwarded by masquerading (NAT). */
export interface RealServer extends ObjectBase, ServiceIdentity {
  kind: 'real-server';
  address: IpAddress;
  port: number;
  weight: number;
}

/** One of src/bpf's programs, with the links it names by their names; the driver knows their numbers. */
export type FastPathProgram =
  /**
   * Underlay → lb, for published ports of `address`, and out of VXLAN: `lb` and `router` are the host's ends of the veths
   * to them, `vni` the router's, `number` this node's.
   */
  | { type: 'host-in'; address: IpAddress; lb: string; router: string; vni: number; number: number }
  /** lb → wherever the host's routes say, for what carries `address`. */
  | { type: 'host-out'; address: IpAddress }
  /** lb or vxlan → tasks. */
  | { type: 'router-in' }
  /** Task → lb or vxlan; `number` is this node's. */
  | { type: 'task-out'; vxlan: string; lb: string; number: number };

/** A tc filter of ours at the ingress of a link. */
export interface FastPathFilter extends ObjectBase {
  kind: 'fast-path';
  netns: string;
  link: string;
  /** Absent when the filter runs another program; `foreign` is set then. */
  program?: FastPathProgram;
}

/** A task that packets take the shortcut to: an entry of mesh_tasks (src/bpf/maps.ts). */
export interface FastPathTask extends ObjectBase {
  kind: 'fast-path-task';
  /** The router's. */
  netns: string;
  address: IpAddress;
  /** The router's end of its veth. */
  link: string;
}

/** A published port that packets take the shortcut to: an entry of mesh_ports. */
export interface FastPathPort extends ObjectBase {
  kind: 'fast-path-port';
  netns: string;
  /** Stands for protocol and port (names.ts). */
  mark: number;
}

/** Another node, whose VXLAN the shortcut unpacks: an entry of mesh_peers. */
export interface FastPathPeer extends ObjectBase {
  kind: 'fast-path-peer';
  netns: string;
  /** On the underlay. */
  address: IpAddress;
}

/** Schedulers whose choice depends on the order of the real servers. */
export function usesHashing(scheduler: string): boolean {
  return scheduler === 'sh' || scheduler === 'mh';
}

/** A service among all. */
export function serviceKey({ netns, family, fwmark, at }: ServiceIdentity): string {
  return at === undefined ? [netns, family, fwmark].join(' ') : `${netns} ${family} ${fwmark} at ${at}`;
}

/** What names a service, out of what belongs to it. */
export function serviceIdentity({ netns, family, fwmark, at }: ServiceIdentity): ServiceIdentity {
  return { netns, family, fwmark, ...(at === undefined ? {} : { at }) };
}

/** A real server within its service. */
export function serverKey({ address, port }: Pick<RealServer, 'address' | 'port'>): string {
  return `${address} ${port}`;
}

/** Objects by identity. Two objects with one key are two states of the same thing. */
export type KernelState = ReadonlyMap<string, KernelObject>;

/**
 * What makes an object that object; all its other fields can be changed or need a replacement. Keys of which there are
 * tens of thousands are joined: the pieces of a template stay in memory with the whole, and cost twice the time.
 */
export function keyOf(object: KernelObject): string {
  switch (object.kind) {
    case 'netns':
      return `netns ${object.netns}`;
    case 'veth':
    case 'vxlan':
      return `link ${object.netns} ${object.name}`;
    case 'sysctl':
      return `sysctl ${object.netns} ${object.name}`;
    case 'address':
      return `address ${object.netns} ${object.dev} ${object.address}/${object.prefix}`;
    case 'neighbour':
      return `neighbour ${object.netns} ${object.dev} ${object.address}`;
    case 'fdb':
      return `fdb ${object.netns} ${object.dev} ${object.mac}`;
    case 'route':
      return `route ${object.netns} ${object.table} ${object.destination}`;
    case 'rule':
      return `rule ${object.netns} ${object.family} ${object.priority} ${object.fwmark}/${object.fwmask} ${ruleAction(object.action)}`;
    case 'ipset':
      return `ipset ${object.netns} ${object.name}`;
    case 'set-member':
      return ['set-member', object.netns, object.set, object.port].join(' ');
    case 'set-entry': {
      const { network, protocol, port, network2 } = object;
      const service = port === undefined ? '' : `,${protocol}:${port}`;
      return `set-entry ${object.netns} ${object.set} ${network}${service}${network2 === undefined ? '' : `,${network2}`}`;
    }
    case 'chain':
      return `chain ${object.netns} ${object.family} ${object.table} ${object.chain}`;
    case 'jump':
      return `jump ${object.netns} ${object.family} ${object.table} ${object.from} ${object.chain}`;
    case 'ipvs-timeouts':
      return `ipvs-timeouts ${object.netns}`;
    case 'virtual-service':
      return ['virtual-service', serviceKey(object)].join(' ');
    case 'real-server':
      return ['real-server', serviceKey(object), object.address, object.port].join(' ');
    case 'fast-path':
      return `fast-path ${object.netns} ${object.link}`;
    case 'fast-path-task':
      return `fast-path-task ${object.netns} ${object.address}`;
    case 'fast-path-peer':
      return `fast-path-peer ${object.netns} ${object.address}`;
    case 'fast-path-port':
      return `fast-path-port ${object.netns} ${object.mark}`;
  }
}

function ruleAction(action: Rule['action']): string {
  if (action === 'nop') return 'nop';
  return 'lookup' in action ? `lookup ${action.lookup}` : `goto ${action.goto}`;
}

/** A state from objects; a later object with the same key replaces an earlier one. */
export function stateOf(objects: Iterable<KernelObject>): Map<string, KernelObject> {
  const state = new Map<string, KernelObject>();
  for (const object of objects) state.set(keyOf(object), object);
  return state;
}

/** One step towards `want`; what the kernel cannot change in place becomes a delete and a create. */
export type Op =
  | { verb: 'create'; object: KernelObject }
  | { verb: 'change'; object: KernelObject; before: KernelObject }
  | { verb: 'delete'; object: KernelObject };
