import { describe, expect, it } from 'vitest';
import { isOwningEnd } from '../observe/observe-links.ts';
import { sysctlPath } from '../observe/sysctl.ts';
import { parseSctpEndpoints } from './sockets.ts';

describe('names of the kernel', () => {
  it('of a sysctl map to its file, and never to one outside /proc/sys', () => {
    expect(sysctlPath('net.ipv4.ip_forward')).toBe('/proc/sys/net/ipv4/ip_forward');
    expect(sysctlPath('net.ipv4.conf.eth0/100.rp_filter')).toBe('/proc/sys/net/ipv4/conf/eth0.100/rp_filter');
    for (const name of ['net.//.//.etc', 'net..x', '', '/.x']) expect(() => sysctlPath(name)).toThrow(RangeError);
  });

  it('of a pair are those of its end nearer to the outside', () => {
    expect(isOwningEnd('host', 'mesh0', 'mesh-lb', 'host0')).toBe(true);
    expect(isOwningEnd('mesh-net-a', 'lb0', 'mesh-lb', 'net0')).toBe(false);
    expect(isOwningEnd('mesh-net-a', 't-x', 'mesh-task-x', 'eth0')).toBe(true);
    expect(isOwningEnd('mesh-lb', 'a', 'mesh-lb', 'b')).toBe(true);
    expect(isOwningEnd('mesh-lb', 'b', 'mesh-lb', 'a')).toBe(false);
  });

  it('of SCTP endpoints that listen', () => {
    const text = ` ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS
ffff8a0c ffff8a0d 2   10  29   7000        0 20735 10.252.1.5 fd6d::5\u0020
ffff8a0e ffff8a0f 2   7   30   7001        0 20736 10.252.1.5
`;
    expect(parseSctpEndpoints(text)).toEqual([
      { protocol: 'sctp', port: 7000, address: '10.252.1.5', inode: 20_735 },
      { protocol: 'sctp', port: 7000, address: 'fd6d::5', inode: 20_735 },
    ]);
    expect(parseSctpEndpoints('')).toEqual([]);
  });
});
