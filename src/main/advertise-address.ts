import { createSocket } from 'node:dgram';
import { isIP, isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';
import ipaddr from 'ipaddr.js';
import { MeshError } from '../base/errors.ts';
import { parseHostPort } from '../model/host-port.ts';
import { HOST_LINKS } from '../model/linux-names.ts';

interface Candidate {
  device: string;
  address: string;
  family: 'IPv4' | 'IPv6';
}

/**
 * The address of this machine that other nodes send VXLAN to: the specified one, else the source address of packets to the first
 * manager leave from, else the one a manager listens on, else the only one there is (IPv4 before IPv6). Throws MeshError `invalid` that lists what there is to choose from.
 */
export async function resolveAdvertiseAddress(
  configured: string | undefined,
  managers: readonly string[],
  listen?: string,
): Promise<string> {
  const candidates = globalAddresses();
  if (configured !== undefined) {
    if (isIP(configured) === 0)
      throw new MeshError('invalid', `--advertise ${configured} is not an IP address${listCandidates(candidates)}`);
    const candidate = candidates.find(({ address }) => sameAddress(address, configured));
    if (candidate !== undefined) return candidate.address;
    throw new MeshError(
      'invalid',
      `--advertise ${configured}: this machine does not have that address${listCandidates(candidates)}`,
    );
  }
  for (const manager of managers) {
    const source = await sourceAddressFor(manager);
    if (candidates.some(({ address }) => address === source)) return source!;
  }
  const listenCandidate = candidates.find(({ address }) =>
    sameAddress(address, parseHostPort(listen ?? '')?.host ?? ''),
  );
  if (listenCandidate !== undefined) return listenCandidate.address;
  const inet = candidates.filter(({ family }) => family === 'IPv4');
  const usable = inet.length > 0 ? inet : candidates;
  if (usable.length === 1) return usable[0]!.address;
  const problem =
    usable.length === 0 ? 'this machine has no address other nodes could reach' : 'this machine has several addresses';
  throw new MeshError(
    'invalid',
    `${problem}: say with --advertise which one other nodes reach it at${listCandidates(usable)}`,
  );
}

function globalAddresses(): Candidate[] {
  return Object.entries(networkInterfaces())
    .filter(([device]) => !HOST_LINKS.includes(device))
    .flatMap(([device, addresses = []]) =>
      addresses
        .filter(({ internal, address }) => !internal && !/^(169\.254\.|fe[89ab][0-9a-f]:)/i.test(address))
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
