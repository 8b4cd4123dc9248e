import type { Family } from '../address.ts';
import { HOST_NETNS } from '../linux-names.ts';

/** Names of the things that objects are and depend on: `netns mesh-lb`, `link mesh-lb host0`. */
export function netnsThing(name: string): string {
  return `netns ${name}`;
}

export function linkThing(netns: string, name: string): string {
  return `link ${netns} ${name}`;
}

/** An IP address of a netns, on any link. */
export function localThing(netns: string, address: string): string {
  return `local ${netns} ${address}`;
}

export function setThing(netns: string, name: string): string {
  return `ipset ${netns} ${name}`;
}

export function chainThing(netns: string, family: Family, table: string, name: string): string {
  return `chain ${netns} ${family} ${table} ${name}`;
}

const IN_HOST: readonly string[] = [];

/** The netns something lives in; the host's is no object. */
export function insideNetns(netns: string): readonly string[] {
  return netns === HOST_NETNS ? IN_HOST : [netnsThing(netns)];
}

/** A link, and the netns it is in. */
export function insideLink(netns: string, dev: string): readonly string[] {
  return netns === HOST_NETNS ? [linkThing(netns, dev)] : [netnsThing(netns), linkThing(netns, dev)];
}
