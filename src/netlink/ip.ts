import type { Cidr, Family, IpAddress, MacAddress } from '../model/address.ts';
import { decodeError, encodeError } from './attributes.ts';

/** include/linux/socket.h */
export const AF_UNSPEC = 0;
export const AF_INET = 2;
export const AF_BRIDGE = 7;
export const AF_INET6 = 10;

/** include/uapi/linux/in.h */
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
export const IPPROTO_SCTP = 132;

/** AF_INET or AF_INET6. */
export function familyNumber(family: Family): number {
  return family === 'inet' ? AF_INET : AF_INET6;
}

/** Throws (inside `decoding`) for any other family. */
export function familyName(number: number): Family {
  if (number === AF_INET) return 'inet';
  if (number === AF_INET6) return 'inet6';
  throw decodeError(`address family ${number}`);
}

function addressLength(family: Family): number {
  return family === 'inet' ? 4 : 16;
}

/** Dotted quad without leading zeros (which some parsers read as octal). */
function parseQuad(text: string): Uint8Array | undefined {
  const out = new Uint8Array(4);
  let value = 0;
  let digits = 0;
  let octet = 0;
  for (let i = 0; i <= text.length; i++) {
    const char = i === text.length ? 46 : text.charCodeAt(i);
    if (char === 46) {
      if (digits === 0 || octet === 4) return undefined;
      out[octet++] = value;
      value = 0;
      digits = 0;
    } else {
      if (char < 48 || char > 57 || (digits > 0 && value === 0)) return undefined;
      value = value * 10 + (char - 48);
      digits++;
      if (value > 255) return undefined;
    }
  }
  return octet === 4 ? out : undefined;
}

/** The 16-bit words of one side of `::`; the last may be a dotted quad. */
function parseWords(side: string): number[] | undefined {
  if (side === '') return [];
  const words: number[] = [];
  const parts = side.split(':');
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i]!;
    if (i === parts.length - 1 && part.includes('.')) {
      const quad = parseQuad(part);
      if (quad === undefined) return undefined;
      words.push((quad[0]! << 8) | quad[1]!, (quad[2]! << 8) | quad[3]!);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(part)) return undefined;
      words.push(Number.parseInt(part, 16));
    }
  }
  return words;
}

function parseInet6(text: string): Uint8Array | undefined {
  if (text.length > 45) return undefined;
  const sides = text.split('::');
  if (sides.length > 2 || (sides.length === 2 && sides[0]!.includes('.'))) return undefined;
  const head = parseWords(sides[0]!);
  const tail = sides.length === 2 ? parseWords(sides[1]!) : [];
  if (head === undefined || tail === undefined) return undefined;
  const count = head.length + tail.length;
  if (sides.length === 1 ? count !== 8 : count > 7) return undefined;
  const words = [...head, ...new Array<number>(8 - count).fill(0), ...tail];
  const out = new Uint8Array(16);
  words.forEach((word, i) => {
    out[i * 2] = word >> 8;
    out[i * 2 + 1] = word & 0xff;
  });
  return out;
}

/** 4 or 16 bytes; throws MeshError `invalid` for anything but an address (leading zeros and zone ids included). */
export function parseAddress(address: IpAddress): Uint8Array {
  const bytes = address.includes(':') ? parseInet6(address) : parseQuad(address);
  if (bytes !== undefined) return bytes;
  throw encodeError(`${JSON.stringify(address)} is not an IP address`);
}

/** Canonical text: dotted quad, or RFC 5952. Throws (inside `decoding`) unless there are 4 or 16 bytes. */
export function formatAddress(bytes: Uint8Array): IpAddress {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`;
  if (bytes.length !== 16) throw decodeError(`address of ${bytes.length} bytes`);
  const words: number[] = [];
  for (let i = 0; i < 16; i += 2) words.push((bytes[i]! << 8) | bytes[i + 1]!);
  // RFC 5952 4.2: the longest run of at least two zero words, the first of equally long ones.
  let start = -1;
  let length = 1;
  for (let i = 0; i < 8; i++) {
    let run = 0;
    while (i + run < 8 && words[i + run] === 0) run++;
    if (run > length) {
      start = i;
      length = run;
    }
    i += run;
  }
  // RFC 5952 5: addresses known to embed IPv4 show it as a dotted quad.
  if (start === 0 && length === 5 && words[5] === 0xffff) return `::ffff:${bytes.slice(12).join('.')}`;
  const hex = (part: number[]) => part.map((word) => word.toString(16)).join(':');
  return start === -1 ? hex(words) : `${hex(words.slice(0, start))}::${hex(words.slice(start + length))}`;
}

/** Reads the first 4 or 16 bytes of a field that is as long as the longest address (IPVS, inet_diag). */
export function formatField(field: Uint8Array, family: Family): IpAddress {
  const size = addressLength(family);
  if (field.length < size) throw decodeError(`address field of ${field.length} bytes for ${family}`);
  return formatAddress(field.subarray(0, size));
}

/** The six bytes of an Ethernet address; throws `invalid` for anything else. */
export function parseMac(mac: MacAddress): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(mac)) throw encodeError(`${JSON.stringify(mac)} is not a MAC address`);
  return Uint8Array.from(mac.split(':'), (byte) => Number.parseInt(byte, 16));
}

/** Lower case with colons, of any length (tunnels have link addresses of 4 or 16 bytes). */
export function formatMac(bytes: Uint8Array): MacAddress {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** `10.0.0.0/8` as family, bytes and prefix length. */
export function parseCidr(cidr: Cidr): { family: Family; bytes: Uint8Array; prefix: number } {
  const slash = cidr.indexOf('/');
  if (slash === -1 || !/^\d{1,3}$/.test(cidr.slice(slash + 1)))
    throw encodeError(`${JSON.stringify(cidr)} is not a CIDR`);
  const bytes = parseAddress(cidr.slice(0, slash));
  const prefix = Number(cidr.slice(slash + 1));
  checkPrefix(prefix, bytes);
  return { family: bytes.length === 4 ? 'inet' : 'inet6', bytes, prefix };
}

/** Throws `invalid` when a prefix is longer than the address. */
export function checkPrefix(prefix: number, bytes: Uint8Array): void {
  if (!Number.isInteger(prefix) || prefix < 0 || prefix > bytes.length * 8) {
    throw encodeError(`prefix length ${prefix} of ${formatAddress(bytes)}`);
  }
}
