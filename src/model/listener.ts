import ipaddr from 'ipaddr.js';
import type { Cidr, IpAddress } from './address.ts';
import { isWithin } from './block.ts';
import type { Listener } from './cluster.ts';
import { VXLAN_PORT } from './names.ts';

const SSHD = ['sshd', 'dropbear'];
/** systemd holds the port for sshd until somebody comes (ssh.socket). */
const SSH_PORT = 22;

/**
 * Whether a node keeps its port from the mesh because of this program, for without it nobody gets in any more: sshd, or
 * meshd itself, which other nodes and outside balancers talk to. What listens on loopback alone keeps nothing.
 */
export function isProtectedListener(listener: Listener): boolean {
  const { protocol, port, process, pid, address } = listener;
  if (isLoopback(address)) return false;
  if (protocol === 'udp') return (port === VXLAN_PORT && pid === undefined) || process === 'meshd';
  return (
    process === 'meshd' ||
    (process !== undefined && SSHD.includes(process)) ||
    (process === 'systemd' && port === SSH_PORT)
  );
}

/** `nginx (pid 812)`; what has no process is the kernel's own, such as a tunnel, or hidden from us. */
export function listenerName({ protocol, port, process, pid }: Listener): string {
  if (process !== undefined) return pid === undefined ? process : `${process} (pid ${pid})`;
  if (protocol === 'udp' && port === VXLAN_PORT) return 'the VXLAN of the mesh';
  return 'the kernel or a hidden process';
}

/** Whether a port published on these local networks (undefined: everywhere) takes connections from this address. */
export function coversAddress(address: IpAddress, networks: readonly Cidr[] | undefined): boolean {
  if (networks === undefined || isWildcard(address)) return true;
  const plain = ipaddr.process(address).toString();
  return networks.some((network) => isWithin(plain, network));
}

function isWildcard(address: IpAddress): boolean {
  return address === '0.0.0.0' || address === '::';
}

function isLoopback(address: IpAddress): boolean {
  return ipaddr.isValid(address) && ipaddr.process(address).range() === 'loopback';
}
