import { describe, expect, it, vi } from 'vitest';
import type { Clock } from '../../base/clock.ts';
import { silentLog } from '../../base/log.ts';
import type { Listener as Socket, SocketOwner } from '../../kernel/kernel.ts';
import type { AssignedPort } from '../../model/assignment.ts';
import type { Listener, PortCondition } from '../../model/cluster.ts';
import { portKey } from '../../model/spec.ts';
import { createPortWatch } from './port-watch.ts';

const port = (published: number): AssignedPort => ({
  protocol: 'tcp',
  published,
  mode: 'ingress',
  serviceId: 's',
  serviceName: 'web',
  scheduler: 'rr',
  endpoints: [],
});
const socket = (inode: number, number: number, change: Partial<Socket> = {}): Socket => ({
  protocol: 'tcp',
  port: number,
  address: '0.0.0.0',
  inode,
  ...change,
});

/** A watch over a host that a test makes; time moves by `pass`. */
function setup(ports: AssignedPort[]) {
  let now = 0;
  let timers: { at: number; run: () => void }[] = [];
  const clock: Clock = {
    now: () => now,
    monotonic: () => now,
    after(delay, run) {
      const timer = { at: now + delay, run };
      timers.push(timer);
      return () => {
        timers = timers.filter((other) => other !== timer);
      };
    },
  };
  const host = {
    sockets: [] as Socket[],
    error: undefined as Error | undefined,
    owners: new Map<number, SocketOwner>(),
    scans: 0,
    reported: [] as Listener[][],
    conditions: [] as PortCondition[][],
    withheld: new Set<string>(),
    ports,
  };
  const log = silentLog();
  const warnings = vi.spyOn(log, 'warn');
  const watch = createPortWatch({
    clock,
    log,
    async sockets() {
      host.scans += 1;
      if (host.error !== undefined) throw host.error;
      return host.sockets;
    },
    owners: async (inodes) => new Map([...host.owners].filter(([inode]) => inodes.has(inode))),
    pid: 42,
    ports: () => host.ports,
    checks: [(all) => all.filter(({ scheduler }) => scheduler === 'mh').map(fallback)],
    onListeners: (listeners) => host.reported.push(listeners),
    onConditions: (conditions) => host.conditions.push(conditions),
    onWithheld(released, keys) {
      for (const one of released) host.withheld.delete(portKey(one));
      for (const key of keys) host.withheld.add(key);
    },
  });
  const pass = async (ms: number) => {
    for (const end = now + ms; ; ) {
      const next = timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      now = next?.at ?? end;
      if (next === undefined) return;
      timers = timers.filter((timer) => timer !== next);
      next.run();
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  return { host, watch, pass, warnings };
}

const fallback = ({ protocol, published }: AssignedPort): PortCondition => ({
  protocol,
  published,
  kind: 'fallback',
  message: 'rr instead of mh',
});

describe('listeners of the host', () => {
  it('that cannot be read are a warning, but not when the agent stops', async () => {
    const { host, watch, warnings } = setup([]);
    host.error = new Error('EPERM');
    await watch.start();
    expect(warnings).toHaveBeenCalledTimes(1);
    const scan = watch.start();
    watch.stop();
    await scan;
    expect(warnings).toHaveBeenCalledTimes(1);
  });

  it('are reported with their owners when they change, and only then', async () => {
    const { host, watch, pass } = setup([]);
    host.sockets = [socket(7, 80), socket(8, 2377)];
    host.owners = new Map([
      [7, { pid: 812, process: 'nginx' }],
      [8, { pid: 42, process: 'node' }],
    ]);
    await watch.start();
    const listeners = [
      { protocol: 'tcp', port: 80, address: '0.0.0.0', pid: 812, process: 'nginx' },
      { protocol: 'tcp', port: 2377, address: '0.0.0.0', protected: true, pid: 42, process: 'meshd' },
    ];
    expect(host.reported).toEqual([listeners]);
    await pass(60_000);
    expect(host.scans).toBeGreaterThan(10);
    expect(host.reported).toHaveLength(1);
    host.sockets = [];
    await pass(5_000);
    expect(host.reported).toEqual([listeners, []]);
    watch.stop();
    const { scans } = host;
    await pass(60_000);
    expect(host.scans).toBe(scans);
  });

  it('leave out UDP sockets on ports of the kernel that are closed by the next scan', async () => {
    const { host, watch, pass } = setup([]);
    // 40,000 is in net.ipv4.ip_local_port_range of any host that did not change it.
    host.sockets = [socket(7, 40_000, { protocol: 'udp' })];
    await watch.start();
    host.sockets = [socket(8, 40_000, { protocol: 'udp' })];
    await pass(5_000);
    expect(host.reported).toEqual([]);
    await pass(5_000);
    expect(host.reported).toEqual([[{ protocol: 'udp', port: 40_000, address: '0.0.0.0' }]]);
    watch.stop();
  });

  it('are in one spelling, and at most 4,096', async () => {
    const { host, watch } = setup([]);
    host.sockets = [
      ...Array.from({ length: 5_000 }, (_, index) => socket(0, index + 1, { address: '::ffff:192.0.2.1' })),
      socket(0, 1, { address: 'no address' }),
    ];
    await watch.start();
    expect(host.reported[0]).toHaveLength(4_096);
    expect(host.reported[0]![0]).toEqual({ protocol: 'tcp', port: 1, address: '192.0.2.1' });
    watch.stop();
  });
});

const SSHD: SocketOwner = { pid: 700, process: 'sshd', uid: 0, executable: '/usr/sbin/sshd' };

describe('a published port', () => {
  it.each<[string, Partial<SocketOwner>]>([
    ['another user', { uid: 1000 }],
    ['a user in a file that only root can change', { uid: 1000, executable: '/usr/sbin/sshd' }],
    ['root from a file that others can change', { executable: undefined }],
    ['root from another file', { executable: '/usr/bin/python3' }],
  ])('is not given to a program of %s that calls itself sshd', async (_, change) => {
    const { host, watch } = setup([port(2222)]);
    host.sockets = [socket(7, 2222)];
    host.owners.set(7, { ...SSHD, ...change });
    await watch.start();
    expect(watch.isPublishable(port(2222))).toBe(true);
    expect(host.conditions.at(-1)).toMatchObject([{ published: 2222, kind: 'taken' }]);
    watch.stop();
  });

  it('is released to sshd when that starts, and published again when it has exited', async () => {
    const { host, watch, pass } = setup([port(2222), port(80)]);
    await watch.start();
    expect(watch.filterPublishable(host.ports)).toEqual(host.ports);
    host.sockets = [socket(7, 2222)];
    host.owners.set(7, SSHD);
    await pass(5_000);
    expect([...host.withheld]).toEqual(['2222/tcp']);
    expect(host.conditions.at(-1)).toMatchObject([{ published: 2222, kind: 'withheld' }]);
    expect(watch.isPublishable(port(2222))).toBe(false);
    host.sockets = [];
    await pass(5_000);
    expect([...host.withheld]).toEqual([]);
    expect(host.conditions.at(-1)).toEqual([]);
    watch.stop();
  });

  it('that is new is not taken from an sshd that was seen already', async () => {
    const { host, watch, pass } = setup([]);
    host.sockets = [socket(7, 2222)];
    host.owners.set(7, SSHD);
    await watch.start();
    host.ports = [port(2222), port(80)];
    expect(watch.filterPublishable(host.ports).map(portKey)).toEqual(['80/tcp']);
    watch.portsChanged();
    await pass(1_000);
    expect(host.conditions.at(-1)).toMatchObject([{ published: 2222, kind: 'withheld' }]);
    // It exits, and the port is published at once.
    host.sockets = [];
    host.withheld.add('2222/tcp');
    await pass(5_000);
    expect([...host.withheld]).toEqual([]);
    watch.stop();
  });

  it('has the conditions of all judges, which end with the port', async () => {
    const { host, watch, pass } = setup([{ ...port(80), scheduler: 'mh' }]);
    host.sockets = [socket(7, 80)];
    await watch.start();
    expect(host.conditions.at(-1)).toMatchObject([{ kind: 'taken' }, { kind: 'fallback' }]);
    host.ports = [];
    watch.portsChanged();
    await pass(1_000);
    expect(host.conditions.at(-1)).toEqual([]);
    watch.stop();
  });
});
