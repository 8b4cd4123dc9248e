import { createSocket } from 'node:dgram';
import { setTimeout as pause } from 'node:timers/promises';
import { openSocket, setSocketOption } from '../../../native/index.ts';
import { familyOf, type IpAddress } from '../../model/address.ts';
import { writeSysctls } from '../observe/sysctl.ts';

/** Milliseconds from the first request to its answer; undefined without an answer. */
export type PingTimes = Map<IpAddress, (number | undefined)[]>;

/** Requests without an answer are repeated at these times, ms. */
const SEND_TIMES = [0, 400, 1_000];
const TIMEOUT = 2_000;
/** Destinations in one batch, and ms between batches. */
const BATCH = { count: 32, pause: 50 };

/** include/uapi/linux/in.h and in6.h: with PROBE a packet has DF set and may be as long as the link allows. */
const MTU_DISCOVER = { inet: { level: 0, name: 10 }, inet6: { level: 41, name: 23 } } as const;
const PMTUDISC_PROBE = 3;
const AF = { inet: 2, inet6: 10 } as const;
const SOCK_DGRAM = 2;
const ICMP = {
  inet: { protocol: 1, request: 8, reply: 0, header: 28 },
  inet6: { protocol: 58, request: 128, reply: 129, header: 48 },
} as const;

/**
 * ICMP echo, never fragmented, from a netns of ours to addresses of one family, in each of the sizes (bytes of the whole
 * IP packet). Opens the netns's ping sockets (net.ipv4.ping_group_range, icmp(7)) to our own group: in a new netns they
 * no group may use them. Throws a system error when the netns was removed.
 */
export async function pingAddresses(
  netnsPath: string,
  addresses: readonly IpAddress[],
  sizes: readonly number[],
): Promise<PingTimes> {
  const times: PingTimes = new Map(addresses.map((address) => [address, sizes.map(() => undefined)]));
  const [first] = addresses;
  if (first === undefined) return times;
  const family = familyOf(first);
  const { protocol, request, reply, header } = ICMP[family];
  const group = process.getegid?.() ?? 0;
  const [refused] = writeSysctls(netnsPath, [{ name: 'net.ipv4.ping_group_range', value: `${group} ${group}` }]);
  if (refused !== undefined) throw refused;
  const fd = openSocket({ netns: netnsPath, family: AF[family], type: SOCK_DGRAM, protocol });
  const { level, name } = MTU_DISCOVER[family];
  setSocketOption(fd, level, name, PMTUDISC_PROBE);
  const socket = createSocket(family === 'inet' ? 'udp4' : 'udp6');
  const sentAt = new Map<string, number>();
  socket.on('error', () => undefined); // a refusal of one destination is its silence
  socket.on('message', (message, { address }) => {
    const size = message.readUInt16BE(6);
    const results = times.get(address);
    const start = sentAt.get(`${address} ${size}`);
    if (message[0] !== reply || results === undefined || start === undefined || results[size] !== undefined) return;
    results[size] = performance.now() - start;
  });
  await new Promise<void>((resolve) => socket.bind({ fd }, resolve));
  // The kernel writes checksum and identifier; the sequence number identifies the size.
  const packets = sizes.map((bytes, size) => {
    const packet = Buffer.alloc(Math.max(8, bytes - header + 8));
    packet[0] = request;
    packet.writeUInt16BE(size, 6);
    return packet;
  });
  const sendRequests = (address: IpAddress) => {
    packets.forEach((packet, size) => {
      if (times.get(address)?.[size] !== undefined) return;
      const key = `${address} ${size}`;
      if (!sentAt.has(key)) sentAt.set(key, performance.now());
      socket.send(packet, 1, address, () => undefined); // ICMP has no ports; Node requires one
    });
  };
  const unanswered = () => addresses.filter((address) => times.get(address)?.includes(undefined));
  try {
    for (const [round, at] of SEND_TIMES.entries()) {
      const left = unanswered();
      for (let index = 0; index < left.length; index += BATCH.count) {
        for (const address of left.slice(index, index + BATCH.count)) sendRequests(address);
        await pause(BATCH.pause);
      }
      const until = (SEND_TIMES[round + 1] ?? TIMEOUT) - at;
      for (let waited = 0; waited < until && unanswered().length > 0; waited += BATCH.pause) await pause(BATCH.pause);
    }
  } finally {
    socket.close();
  }
  return times;
}
