import type { Attributes } from './attributes.ts';

/** Counters since the object was made (or zeroed); rates are the kernel's 2-second averages. Exact up to 2^53. */
export interface IpvsStats {
  connections: number;
  inPackets: number;
  outPackets: number;
  inBytes: number;
  outBytes: number;
  connectionsPerSecond: number;
  inPacketsPerSecond: number;
  outPacketsPerSecond: number;
  inBytesPerSecond: number;
  outBytesPerSecond: number;
}

/**
 * IPVS_STATS_ATTR_*, include/uapi/linux/ip_vs.h: 1-10 in the order of IpvsStats. In STATS64 all are 64 bit; in STATS
 * only the bytes are, and the rest wraps at 2^32. The value's own length tells which.
 */
export function readStats(stats: Attributes | undefined): IpvsStats {
  const read = (type: number) => {
    const size = stats?.bytes(type)?.length;
    return (size === undefined ? undefined : size >= 8 ? stats?.u64(type) : stats?.u32(type)) ?? 0;
  };
  return {
    connections: read(1),
    inPackets: read(2),
    outPackets: read(3),
    inBytes: read(4),
    outBytes: read(5),
    connectionsPerSecond: read(6),
    inPacketsPerSecond: read(7),
    outPacketsPerSecond: read(8),
    inBytesPerSecond: read(9),
    outBytesPerSecond: read(10),
  };
}
