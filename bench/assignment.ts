import { readFileSync } from 'node:fs';
import type { AssignedPort, Assignment, Peer } from '../src/model/assignment.ts';
import { addressAt, blockOf } from '../src/model/block.ts';
import { vtepMac } from '../src/model/identifiers.ts';
import { ruleText } from '../src/model/kinds/firewall-rule.ts';
import type { KernelObject } from '../src/model/kinds/registry.ts';
import { SCHEDULERS } from '../src/model/spec.ts';
import type { NodeCapabilities } from '../src/plan/context.ts';

/** Assignments as a manager would write them, for benchmarks that run without a manager. */

const SUBNET = '10.252.0.0/16';
/** 7 bits of addresses per node: 512 nodes in the subnet. */
const BLOCK_PREFIX = 25;

export function block(node: number): string {
  return blockOf(SUBNET, BLOCK_PREFIX, node)!;
}

/** The `nth` task address of a node, from 0. */
export function taskAddress(node: number, nth: number): string {
  return addressAt(block(node), 5 + nth);
}

/** Nodes after the third exist in tables only; their underlay addresses (RFC 2544) are unreachable. */
function underlay(node: number): string {
  return node <= 3 ? `192.168.77.1${node}` : `198.18.${node >> 8}.${node & 255}`;
}

function peer(node: number): Peer {
  const blocks = [{ networkId: 'n', family: 'inet' as const, block: block(node) }];
  return { nodeId: `node${node}`, number: node, underlay: underlay(node), mac: vtepMac(node), blocks };
}

/** A published port; `servers` are [node, nth task of it]. */
export function port(
  protocol: 'tcp' | 'udp',
  published: number,
  target: number,
  servers: readonly (readonly [number, number])[],
): AssignedPort {
  const endpoints = servers.map(([node, nth]) => ({
    taskId: `task${node}x${nth}`,
    nodeId: `node${node}`,
    address: taskAddress(node, nth),
    port: target,
    weight: 1,
  }));
  return { protocol, published, mode: 'ingress', serviceId: 's', serviceName: 'bench', scheduler: 'rr', endpoints };
}

/** The assignment of node `self` of `nodes` without any port or task. */
export function node(self: number, nodes: number): Assignment {
  const others = Array.from({ length: nodes }, (_, index) => index + 1).filter((other) => other !== self);
  return {
    revision: 1,
    self: { nodeId: `node${self}`, name: `node${self}`, number: self, underlay: underlay(self) },
    networks: [
      { id: 'n', name: 'ingress', vni: 4096, subnets: [{ family: 'inet', cidr: SUBNET, block: block(self) }] },
    ],
    peers: others.map(peer),
    ports: [],
    tasks: [],
  };
}

export function nodeCapabilities(): NodeCapabilities {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(readFileSync('/proc/sys/kernel/osrelease', 'utf8'))!;
  return {
    underlayMtu: 1500,
    kernel: { major: Number(major), minor: Number(minor) },
    families: ['inet'],
    schedulers: SCHEDULERS,
  };
}

/**
 * The user-mode kernel has no conntrack zones, so the one rule that needs them is omitted: it only distinguishes two
 * clients that come through different nodes with the same address and port, which no benchmark does. The path is one rule shorter.
 */
export function withoutZones(state: Map<string, KernelObject>): Map<string, KernelObject> {
  for (const [key, object] of state) {
    if (object.kind !== 'chain') continue;
    state.set(key, { ...object, rules: object.rules.filter((rule) => !ruleText(rule).includes('--zone-orig')) });
  }
  return state;
}
