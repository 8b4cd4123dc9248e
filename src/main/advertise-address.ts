import { createSocket } from 'node:dgram';
import { isIP, isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';
import ipaddr from 'ipaddr.js';
import { MeshError } from '../base/errors.ts';
import type { HostAddress } from '../kernel/kernel.ts';
import type { IpAddress } from '../model/address.ts';
import { isLoopback } from '../model/canonical-address.ts';
import { parseHostPort } from '../model/host-port.ts';
import { HOST_LINKS } from '../model/linux-names.ts';
import type { DaemonOptions } from './meshd-options.ts';

const LINK_LOCAL_INET6 = /^fe[89ab][0-9a-f]:/i;

interface Candidate {
  device: string;
  address: string;
  family: 'IPv4' | 'IPv6';
}

/**
 * The address of this machine that other nodes send VXLAN to: the specified one, else the source address of packets to the
 * first manager, else the one a manager listens on, else the only one there is (IPv4 before IPv6). A specified address may
 * be on any link, also on `lo` or one without carrier, as on routed hosts. Throws MeshError `invalid` that lists what there
 * is to choose from.
 */
export async function resolveAdvertiseAddress(
  { advertise, join, listen }: Pick<DaemonOptions, 'advertise' | 'join' | 'listen'>,
  hostAddresses: () => Promise<readonly Pick<HostAddress, 'link' | 'address'>[]>,
): Promise<IpAddress> {
  const candidates = globalAddresses();
  const all = await hostAddresses();
  const own = (text: string) =>
    all.find(({ link, address }) => !HOST_LINKS.includes(link) && sameAddress(address, text));
  if (advertise !== undefined) {
    const problem = unusableReason(advertise);
    if (problem !== undefined)
      throw new MeshError('invalid', `--advertise ${advertise} ${problem}${listCandidates(candidates)}`);
    const found = own(advertise);
    if (found !== undefined) return found.address;
    throw new MeshError(
      'invalid',
      `--advertise ${advertise}: this machine does not have that address, or its interface is down${listCandidates(candidates)}`,
    );
  }
  for (const manager of join) {
    const source = await sourceAddressFor(manager);
    const found = source !== undefined && unusableReason(source) === undefined ? own(source) : undefined;
    if (found !== undefined) return found.address;
  }
  const listenHost = parseHostPort(listen ?? '')?.host ?? '';
  const listenAddress = unusableReason(listenHost) === undefined ? own(listenHost) : undefined;
  if (listenAddress !== undefined) return listenAddress.address;
  const inet = candidates.filter(({ family }) => family === 'IPv4');
  const usable = inet.length > 0 ? inet : candidates;
  if (usable.length === 1) return usable[0]!.address;
  const problem =
    usable.length === 0 ? 'this machine has no address other nodes could reach' : 'this machine has several addresses';
  throw new MeshError(
    'invalid',
    `${problem}: specify with --advertise which one other nodes reach it at${listCandidates(usable)}`,
  );
}

/** Why other nodes cannot send packets to this address, whichever link has it. */
function unusableReason(address: string): string | undefined {
  if (isIP(address) === 0) return 'is not an IP address';
  if (isLoopback(address)) return 'is a loopback address, which other nodes cannot reach';
  if (LINK_LOCAL_INET6.test(address)) return 'is a link-local address, which is not unique among the links of a host';
  return undefined;
}

/** What to choose from without a flag: addresses of links that are up and have a carrier, not of `lo`. */
function globalAddresses(): Candidate[] {
  return Object.entries(networkInterfaces())
    .filter(([device]) => !HOST_LINKS.includes(device))
    .flatMap(([device, addresses = []]) =>
      addresses
        .filter(
          ({ internal, address }) => !internal && !address.startsWith('169.254.') && !LINK_LOCAL_INET6.test(address),
        )
        .map(({ address, family }) => ({ device, address, family })),
    );
}

function listCandidates(candidates: readonly Candidate[]): string {
  return candidates.length === 0
    ? ''
    : `; it has ${candidates.map(({ address, device }) => `${address} (${device})`).join(', ')}`;
}

/** The source address that the kernel selects; connecting a UDP socket sends no packet. */
function sourceAddressFor(manager: string): Promise<string | undefined> {
  const { host: name = '', port = 0 } = parseHostPort(manager) ?? {};
  return new Promise((resolve) => {
    const socket = createSocket(isIP(name) === 6 ? 'udp6' : 'udp4');
    const done = (address: string | undefined) => {
      socket.close();
      resolve(address);
    };
    socket.once('error', () => done(undefined));
    socket.connect(port || 2377, name, () => done(socket.address().address));
  });
}

/** IPv6 has many spellings of one address. */
function sameAddress(a: string, b: string): boolean {
  return a === b || (isIPv6(a) && isIPv6(b) && ipaddr.parse(a).toString() === ipaddr.parse(b).toString());
}
