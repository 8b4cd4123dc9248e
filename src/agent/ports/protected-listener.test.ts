import { describe, expect, it } from 'vitest';
import type { Listener as Socket, SocketOwner } from '../../kernel/kernel.ts';
import { isProtectedSocket } from './protected-listener.ts';

const OWN_PID = 42;
const socket: Socket = { protocol: 'tcp', port: 8080, address: '0.0.0.0', inode: 7 };
const sshd: SocketOwner = { pid: 700, process: 'sshd', uid: 0, executable: '/usr/sbin/sshd' };

describe('a socket of', () => {
  it.each<[string, Partial<Socket>, Partial<SocketOwner>, boolean]>([
    ['sshd', {}, {}, true],
    ['dropbear', {}, { process: 'dropbear', executable: '/usr/sbin/dropbear' }, true],
    ['sshd under another name', {}, { process: 'listener' }, true],
    ['a tunnel of sshd on loopback', { address: '127.0.0.1' }, {}, false],
    ['the same over IPv6', { address: '::1' }, {}, false],
    ['sshd over UDP', { protocol: 'udp' }, {}, false],
    ['a user’s own sshd', {}, { uid: 1000 }, false],
    ['root’s sshd in a file that others can change', {}, { executable: undefined }, false],
    ['root’s program that only calls itself sshd', {}, { executable: '/usr/bin/python3' }, false],
    ['systemd for sshd', { port: 22 }, { process: 'systemd', pid: 1 }, true],
    ['a user’s systemd', { port: 22 }, { process: 'systemd', uid: 1000 }, false],
    ['systemd for another program', { port: 631 }, { process: 'systemd', pid: 1 }, false],
    ['this meshd', { port: 2377 }, { process: 'node', pid: OWN_PID, uid: 1000 }, true],
    ['root’s other meshd', { port: 2377 }, { process: 'meshd', executable: '/usr/bin/node' }, true],
    ['a user’s program that calls itself meshd', { port: 2377 }, { process: 'meshd', uid: 1000 }, false],
    ['nginx', {}, { process: 'nginx', executable: '/usr/sbin/nginx' }, false],
  ])('%s', (_, change, owner, expected) => {
    expect(isProtectedSocket({ ...socket, ...change }, { ...sshd, ...owner }, OWN_PID)).toBe(expected);
  });

  it('the kernel itself: the VXLAN of the mesh, and no other', () => {
    expect(isProtectedSocket({ protocol: 'udp', port: 4789, address: '0.0.0.0' }, undefined, OWN_PID)).toBe(true);
    expect(isProtectedSocket({ protocol: 'udp', port: 51_820, address: '::' }, undefined, OWN_PID)).toBe(false);
    expect(isProtectedSocket({ protocol: 'tcp', port: 4789, address: '0.0.0.0' }, undefined, OWN_PID)).toBe(false);
  });
});
