import { readFileSync } from 'node:fs';
import { inNetns } from '../../../native/index.ts';
import { familyOf } from '../../model/address.ts';
import { formatHostPort } from '../../model/host-port.ts';
import { decodeSocket, dumpListeners } from '../../netlink/sock-diag.ts';
import { decodeAll } from '../driver/decode-all.ts';
import type { Namespaces } from '../driver/namespaces.ts';
import { NETLINK_SOCK_DIAG, type Transport } from '../driver/transport.ts';
import { type IpvsFamily, ipvsKey } from '../ipvs/ipvs.ts';
import { listDestinations, listServices } from '../ipvs/observe-services.ts';
import type { Listener } from '../kernel.ts';

const FAMILIES = ['inet', 'inet6'] as const;
/** enum sctp_sock_state, include/net/sctp/constants.h: the same number as TCP_LISTEN. */
const SCTP_LISTENING = '10';

/** TCP and SCTP sockets that listen, UDP sockets that are bound and not connected. */
export async function listListeners(transport: Transport, namespaces: Namespaces, netns: string): Promise<Listener[]> {
  const listeners: Listener[] = [];
  for (const protocol of ['tcp', 'udp'] as const) {
    for (const family of FAMILIES) {
      const sockets = decodeAll(
        await transport.dump(netns, NETLINK_SOCK_DIAG, dumpListeners(protocol, family)),
        decodeSocket,
      );
      for (const { port, address, inode, v6only } of sockets)
        if (port !== 0) listeners.push({ protocol, port, address, inode, ...(v6only ? { v6only } : {}) });
    }
  }
  const sctp = parseSctpEndpoints(readSctpEndpoints(namespaces.path(netns)));
  if (!sctp.some(({ address }) => familyOf(address) === 'inet6')) return [...listeners, ...sctp];
  const v6only = await listSctpV6Only(transport, netns);
  return [...listeners, ...sctp.map((one) => (v6only.has(one.inode ?? 0) ? { ...one, v6only: true as const } : one))];
}

/** Inodes of SCTP sockets with IPV6_V6ONLY, which only inet_diag shows; none on a kernel without the module sctp_diag. */
async function listSctpV6Only(transport: Transport, netns: string): Promise<Set<number>> {
  try {
    const replies = await transport.dump(netns, NETLINK_SOCK_DIAG, dumpListeners('sctp', 'inet6'));
    return new Set(decodeAll(replies, decodeSocket).flatMap(({ inode, v6only }) => (v6only ? [inode] : [])));
  } catch {
    return new Set();
  }
}

/** inet_diag of SCTP has one address of each endpoint; all of them are in a text (net/sctp/proc.c). */
function readSctpEndpoints(netnsPath: string): string {
  return inNetns(netnsPath, () => {
    try {
      return readFileSync('/proc/thread-self/net/sctp/eps', 'latin1');
    } catch (thrown) {
      // No such module, no such sockets.
      if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return '';
      throw thrown;
    }
  });
}

/** Columns: ENDPT SOCK STY SST HBKT LPORT UID INODE LADDRS… */
export function parseSctpEndpoints(text: string): Listener[] {
  return text
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [, , , state, , port, , inode, ...addresses] = line.trim().split(/\s+/);
      if (state !== SCTP_LISTENING) return [];
      return addresses.map((address) => ({
        protocol: 'sctp' as const,
        port: Number(port),
        address,
        inode: Number(inode),
      }));
    });
}

/** Established connections per real server of the given services, both families. */
export async function listConnections(
  transport: Transport,
  ipvs: IpvsFamily,
  netns: string,
  fwmarks: readonly number[],
): Promise<Map<string, number>> {
  const genl = await ipvs.require();
  const counts = new Map<string, number>();
  const requested = new Set(fwmarks);
  for (const service of requested.size === 0 ? [] : await listServices(transport, genl, netns)) {
    if (!requested.has(service.fwmark)) continue;
    for (const { address, port, active } of await listDestinations(transport, genl, netns, ipvsKey(service))) {
      const key = formatHostPort(address, port);
      counts.set(key, (counts.get(key) ?? 0) + active);
    }
  }
  return counts;
}
