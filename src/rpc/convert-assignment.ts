import type {
  AssignedNetwork,
  AssignedPort,
  AssignedTask,
  Assignment,
  AssignmentDelta,
  Endpoint,
  Peer,
} from '../model/assignment.ts';
import { LIMIT } from '../model/limits.ts';
import {
  address,
  cidr,
  environmentKey,
  id,
  integer,
  invalid,
  list,
  mac,
  name,
  port,
  record,
  text,
  word,
} from './check.ts';
import {
  balancingFromWire,
  directory,
  healthFromWire,
  healthToWire,
  PORT_MODES,
  PROTOCOLS,
  persistenceToWire,
  privilegesFromWire,
  user,
} from './convert-spec.ts';
import type * as wire from './gen/mesh.ts';

/** Entries of one list of an assignment; the message size is the other bound. */
const MANY = 1_000_000;
const FAMILIES = ['inet', 'inet6'] as const;

export function assignmentToWire(assignment: Assignment): wire.Assignment {
  return { ...assignment, ports: assignment.ports.map(portToWire), tasks: assignment.tasks.map(taskToWire) };
}

export function deltaToWire(delta: AssignmentDelta): wire.AssignmentDelta {
  return { ...delta, ports: delta.ports.map(portToWire), tasks: delta.tasks.map(taskToWire) };
}

function portToWire(port: AssignedPort): wire.AssignedPort {
  const { schedulerFlags = [], addresses = [], allowFrom = [] } = port;
  const persistence = port.persistence && persistenceToWire(port.persistence);
  return { ...port, schedulerFlags, persistence, addresses, allowFrom };
}

function taskToWire(task: AssignedTask): wire.AssignedTask {
  return {
    ...task,
    process: { ...task.process, capAdd: task.process.capAdd ?? [], capDrop: task.process.capDrop ?? [] },
    pick: task.pick ?? [],
    health: task.health && healthToWire(task.health),
  };
}

/** An assignment from outside, checked; throws MeshError `invalid` naming the field. */
export function assignmentFromWire(message: wire.Assignment): Assignment {
  const { self } = message;
  if (self === undefined) throw invalid('assignment.self', 'is missing');
  return {
    revision: revision(message.revision, 'assignment.revision'),
    self: {
      nodeId: id(self.nodeId, 'assignment.self.node_id'),
      name: name(self.name, 'assignment.self.name'),
      number: port(self.number, 'assignment.self.number'),
      underlay: address(self.underlay, 'assignment.self.underlay'),
    },
    networks: list(message.networks, 'networks', MANY, network),
    peers: list(message.peers, 'peers', MANY, peer),
    ports: list(message.ports, 'ports', MANY, assignedPort),
    tasks: list(message.tasks, 'tasks', MANY, task),
  };
}

/** As assignmentFromWire. */
export function deltaFromWire(message: wire.AssignmentDelta): AssignmentDelta {
  return {
    base: revision(message.base, 'delta.base'),
    revision: revision(message.revision, 'delta.revision'),
    peers: list(message.peers, 'peers', MANY, peer),
    ports: list(message.ports, 'ports', MANY, assignedPort),
    tasks: list(message.tasks, 'tasks', MANY, task),
    removedPeers: list(message.removedPeers, 'removed_peers', MANY, id),
    removedPorts: list(message.removedPorts, 'removed_ports', MANY, key),
    removedTasks: list(message.removedTasks, 'removed_tasks', MANY, id),
  };
}

function revision(value: number, where: string): number {
  return integer(value, where, 0, Number.MAX_SAFE_INTEGER);
}

function key(value: string, where: string): string {
  if (!/^\d{1,5}\/(tcp|udp|sctp)$/.test(value)) throw invalid(where, 'is not a port key such as 80/tcp');
  return value;
}

function network(message: wire.AssignedNetwork, where: string): AssignedNetwork {
  return {
    id: id(message.id, `${where}.id`),
    name: name(message.name, `${where}.name`),
    vni: integer(message.vni, `${where}.vni`, 1, 0xffffff),
    subnets: list(message.subnets, `${where}.subnets`, 16, (subnet, path) => {
      const family = word(subnet.family, `${path}.family`, FAMILIES);
      return {
        family,
        cidr: cidr(subnet.cidr, `${path}.cidr`, family),
        block: cidr(subnet.block, `${path}.block`, family),
      };
    }),
  };
}

function peer(message: wire.Peer, where: string): Peer {
  return {
    nodeId: id(message.nodeId, `${where}.node_id`),
    number: port(message.number, `${where}.number`),
    underlay: address(message.underlay, `${where}.underlay`),
    mac: mac(message.mac, `${where}.mac`),
    blocks: list(message.blocks, `${where}.blocks`, 1_024, (block, path) => {
      const family = word(block.family, `${path}.family`, FAMILIES);
      return {
        networkId: id(block.networkId, `${path}.network_id`),
        family,
        block: cidr(block.block, `${path}.block`, family),
      };
    }),
  };
}

function assignedPort(message: wire.AssignedPort, where: string): AssignedPort {
  return {
    protocol: word(message.protocol, `${where}.protocol`, PROTOCOLS),
    published: port(message.published, `${where}.published`),
    mode: word(message.mode, `${where}.mode`, PORT_MODES),
    serviceId: id(message.serviceId, `${where}.service_id`),
    serviceName: name(message.serviceName, `${where}.service_name`),
    scheduler: scheduler(message.scheduler, `${where}.scheduler`),
    ...(message.fallback === undefined ? {} : { fallback: scheduler(message.fallback, `${where}.fallback`) }),
    ...balancingFromWire(message, where),
    endpoints: list(message.endpoints, `${where}.endpoints`, MANY, endpoint),
  };
}

/** IP_VS_SCHEDNAME_MAXLEN in include/uapi/linux/ip_vs.h is 16 with the NUL. */
function scheduler(value: string, where: string): string {
  if (!/^[a-z0-9_-]{1,15}$/.test(value)) throw invalid(where, 'is not the name of an IPVS scheduler');
  return value;
}

function endpoint(message: wire.Endpoint, where: string): Endpoint {
  return {
    taskId: id(message.taskId, `${where}.task_id`),
    nodeId: id(message.nodeId, `${where}.node_id`),
    address: address(message.address, `${where}.address`),
    port: port(message.port, `${where}.port`),
    weight: integer(message.weight, `${where}.weight`, 0, 65_535),
  };
}

function task(message: wire.AssignedTask, where: string): AssignedTask {
  const { process } = message;
  if (process === undefined) throw invalid(`${where}.process`, 'is missing');
  return {
    id: id(message.id, `${where}.id`),
    serviceId: id(message.serviceId, `${where}.service_id`),
    serviceName: name(message.serviceName, `${where}.service_name`),
    slot: integer(message.slot, `${where}.slot`, 1, 65_535),
    desired: word(message.desired, `${where}.desired`, ['running', 'shutdown']),
    addresses: list(message.addresses, `${where}.addresses`, 1_024, networkAddress),
    process: {
      command: list(process.command, `${where}.command`, LIMIT.arguments, (value, path) =>
        text(value, path, LIMIT.argument),
      ),
      workingDir: directory(process.workingDir, `${where}.working_dir`),
      ...(process.user === undefined ? {} : { user: user(process.user, `${where}.user`) }),
      ...privilegesFromWire(process, where),
      environment: record(process.environment, `${where}.environment`, environmentKey, LIMIT.argument),
    },
    targets: list(message.targets, `${where}.targets`, LIMIT.ports, target),
    ...(message.pick.length === 0 ? {} : { pick: list(message.pick, `${where}.pick`, LIMIT.ports, target) }),
    ...(message.health === undefined ? {} : { health: healthFromWire(message.health, `${where}.health`) }),
    stopGracePeriod: integer(message.stopGracePeriod, `${where}.stop_grace_period`, 0, LIMIT.duration),
  };
}

function target(message: wire.Target, where: string): AssignedTask['targets'][number] {
  return {
    protocol: word(message.protocol, `${where}.protocol`, PROTOCOLS),
    port: port(message.port, `${where}.port`),
  };
}

function networkAddress(message: wire.NetworkAddress, where: string): { networkId: string; address: string } {
  return {
    networkId: id(message.networkId, `${where}.network_id`),
    address: address(message.address, `${where}.address`),
  };
}
