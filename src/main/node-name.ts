import { hostname } from 'node:os';
import { readIdentity } from '../agent/agent-disk.ts';
import type { DaemonOptions } from './meshd-options.ts';

/**
 * The name of this node: the configured one, else the one with which it joined, else the host name up to the first dot.
 * Constraints and endpoints refer to nodes by name, so a changed host name must not rename a node. `notice`: for the log.
 */
export function nodeName(
  { name: configured, stateDir }: Pick<DaemonOptions, 'name' | 'stateDir'>,
  host: string = hostname(),
): { name: string; notice?: string } {
  const [hostName = ''] = host.split('.');
  const name = configured ?? joinedName(stateDir) ?? hostName;
  if (configured !== undefined || name === hostName) return { name };
  return {
    name,
    notice: `the host name is ${hostName}; this node keeps the name ${name}, with which it joined. Start meshd with --name ${hostName} to rename it`,
  };
}

/** A damaged identity is reported when the agent opens it. */
function joinedName(stateDir: string): string | undefined {
  try {
    return readIdentity(stateDir)?.name;
  } catch {
    return undefined;
  }
}
