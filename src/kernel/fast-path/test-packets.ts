import { addressBytes } from './fast-path-objects.ts';

/* Packets of the tests of this folder. */

// include/uapi/linux/pkt_cls.h
export const PASS = -1;
export const REDIRECT = 7;

export const FLAGS = { fin: 1, syn: 2, rst: 4, ack: 16 };
/** The fragment field of a first fragment (IP_MF) and of a later one. */
export const FIRST_FRAGMENT = 0x2000;
export const LATER_FRAGMENT = 10;

export interface Packet {
  protocol: 'tcp' | 'udp' | 'icmp';
  from: string;
  to: string;
  ports?: [number, number];
  flags?: number;
  fragment?: number;
  /** IP identification, for fragments. */
  id?: number;
  options?: boolean;
  payload?: Buffer;
}

const PROTOCOL_NUMBERS = { icmp: 1, tcp: 6, udp: 17 };

/** From the IP header on. */
export function ip(packet: Packet): Buffer {
  const { protocol, from, to, ports = [0, 0], flags = FLAGS.ack, fragment = 0, id = 0, options = false } = packet;
  const header = Buffer.alloc(options ? 24 : 20);
  header[0] = options ? 0x46 : 0x45;
  header.writeUInt16BE(id, 4);
  header.writeUInt16BE(fragment, 6);
  header[9] = PROTOCOL_NUMBERS[protocol];
  addressBytes(from).copy(header, 12);
  addressBytes(to).copy(header, 16);
  if (packet.payload !== undefined) return Buffer.concat([header, packet.payload]);
  const body = Buffer.alloc(protocol === 'udp' ? 8 : 20);
  body.writeUInt16BE(ports[0], 0);
  body.writeUInt16BE(ports[1], 2);
  if (protocol === 'tcp') body[13] = flags;
  return Buffer.concat([header, body]);
}

export function frame(packet: Packet, etherType = 0x0800): Buffer {
  const ethernet = Buffer.alloc(14);
  ethernet.writeUInt16BE(etherType, 12);
  return Buffer.concat([ethernet, ip(packet)]);
}

/** An ICMP error that quotes a packet. */
export function icmpError(from: string, to: string, quoted: Packet, type = 3): Packet {
  const payload = Buffer.concat([Buffer.from([type, 4, 0, 0, 0, 0, 0, 0]), ip(quoted)]);
  return { protocol: 'icmp', from, to, payload };
}

/** Offset of the transport header in a frame. */
export function transportAt(packet: Buffer): number {
  return 14 + 4 * (packet[14]! & 15);
}
