import { describe, expect, it } from 'vitest';
import type { Listener } from '../../model/cluster.ts';
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

  it('keeps it when it is protected', () => {
    const sshd: Listener = { ...nginx, process: 'sshd', pid: 700, protected: true };
    const [condition] = judged(web, sshd, nginx);
    expect(condition?.kind).toBe('withheld');
    expect(condition?.message).toMatch(
      /^sshd \(pid 700\) listens on 0\.0\.0\.0:8080; this node does not publish the port\. /,
    );
    expect(isWithheld(web, groupByPort([sshd]))).toBe(true);
    expect(isWithheld(web, groupByPort([nginx]))).toBe(false);
  });

  it('may have no process: the kernel itself, such as a tunnel', () => {
    const [condition] = judged(
      { protocol: 'udp', published: 51_820 },
      { protocol: 'udp', port: 51_820, address: '::' },
    );
    expect(condition?.message).toMatch(/^the kernel or a hidden process listens on \[::\]:51820/);
  });
});
