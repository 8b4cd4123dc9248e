import ipaddr from 'ipaddr.js';
import type { Cidr, IpAddress } from './address.ts';
import { isWithin } from './block.ts';
import { isWildcard } from './canonical-address.ts';
import type { Listener } from './cluster.ts';
import { VXLAN_PORT } from './linux-names.ts';

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
