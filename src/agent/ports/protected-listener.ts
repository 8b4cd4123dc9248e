import { basename } from 'node:path';
import type { Listener as Socket, SocketOwner } from '../../kernel/kernel.ts';
import { isLoopback } from '../../model/canonical-address.ts';
import { VXLAN_PORT } from '../../model/linux-names.ts';

const SSH_SERVERS = ['sshd', 'dropbear'];
/** systemd holds the port for sshd until a client connects (ssh.socket). */
const SSH_PORT = 22;
const INIT_PID = 1;

/**
 * Whether the node keeps a port from the mesh for this socket, because the node is unreachable without it: sshd's, or
 * meshd's own, which other nodes and outside balancers connect to. The name of a process proves nothing, for every
 * process may choose its own: sshd is root's process in a file that only root can change. Sockets on loopback keep nothing.
 */
export function isProtectedSocket(socket: Socket, owner: SocketOwner | undefined, ownPid: number): boolean {
  if (isLoopback(socket.address)) return false;
  if (owner === undefined) return socket.protocol === 'udp' && socket.port === VXLAN_PORT; // the kernel's own
  if (owner.pid === ownPid) return true;
  if (owner.uid !== 0) return false;
  if (owner.process === 'meshd') return true;
  if (socket.protocol === 'udp') return false;
  if (owner.pid === INIT_PID) return owner.process === 'systemd' && socket.port === SSH_PORT;
  return owner.executable !== undefined && SSH_SERVERS.includes(basename(owner.executable));
}
