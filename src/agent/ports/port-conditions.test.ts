import { describe, expect, it } from 'vitest';
import type { Listener } from '../../model/cluster.ts';
import { isProtectedListener } from '../../model/listener.ts';
import { groupByPort, isWithheld, listenerConditions } from './port-conditions.ts';

const nginx: Listener = { protocol: 'tcp', port: 8080, address: '0.0.0.0', pid: 812, process: 'nginx' };
const web = { protocol: 'tcp', published: 8080 } as const;
const judged = (port: Parameters<typeof listenerConditions>[0][number], ...listeners: Listener[]) =>
  listenerConditions([port], groupByPort(listeners));

describe('a program on a published port', () => {
  it('is named with every address it listens on', () => {
    expect(judged(web, nginx, { ...nginx, address: '::' })).toEqual([
      {
        ...web,
        kind: 'taken',
        message: 'nginx (pid 812) listens on 0.0.0.0:8080, [::]:8080; the published port takes precedence',
      },
    ]);
  });

  it('does not matter on another port, protocol or address', () => {
    expect(judged({ ...web, published: 8081 }, nginx)).toEqual([]);
    expect(judged({ ...web, protocol: 'udp' }, nginx)).toEqual([]);
    expect(judged({ ...web, addresses: ['10.0.0.0/8'] }, { ...nginx, address: '192.0.2.1' })).toEqual([]);
    expect(judged({ ...web, addresses: ['10.0.0.0/8'] }, { ...nginx, address: 'fd30::1' })).toEqual([]);
  });

  it('keeps it when it is sshd', () => {
    const sshd = { ...nginx, process: 'sshd', pid: 700 };
    const [condition] = judged(web, sshd, nginx);
    expect(condition?.kind).toBe('withheld');
    expect(condition?.message).toMatch(
      /^sshd \(pid 700\) listens on 0\.0\.0\.0:8080; this node does not publish the port\. /,
    );
    expect(isWithheld(web, groupByPort([sshd]))).toBe(true);
    expect(isWithheld(web, groupByPort([nginx]))).toBe(false);
  });

  it.each<[string, Partial<Listener>, boolean]>([
    ['sshd', { process: 'sshd' }, true],
    ['a tunnel of sshd on loopback', { process: 'sshd', address: '127.0.0.1' }, false],
    ['the same over IPv6', { process: 'sshd', address: '::1' }, false],
    ['systemd for sshd', { process: 'systemd', pid: 1, port: 22 }, true],
    ['systemd for somebody else', { process: 'systemd', pid: 1, port: 631 }, false],
    ['meshd', { process: 'meshd', port: 2377 }, true],
    ['sshd over UDP', { process: 'sshd', protocol: 'udp' }, false],
  ])('%s', (_, change, keeps) => {
    expect(isProtectedListener({ ...nginx, ...change })).toBe(keeps);
  });

  it('may have no process: the kernel itself, such as a tunnel', () => {
    expect(isProtectedListener({ protocol: 'udp', port: 4789, address: '0.0.0.0' })).toBe(true);
    const [condition] = judged(
      { protocol: 'udp', published: 51_820 },
      { protocol: 'udp', port: 51_820, address: '::' },
    );
    expect(condition?.message).toMatch(/^the kernel or a hidden process listens on \[::\]:51820/);
  });
});
