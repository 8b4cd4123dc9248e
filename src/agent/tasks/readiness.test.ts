import { describe, expect, it } from 'vitest';
import type { TargetPort } from '../../model/assignment.ts';
import type { BoundSocket } from '../../model/bound-socket.ts';
import { describeMissing, judgeReadiness } from './readiness.ts';

const target = (port: number, more: Partial<TargetPort> = {}): TargetPort => ({ protocol: 'tcp', port, ...more });
const ports = (first: number, last: number, more: Partial<TargetPort> = {}) =>
  Array.from({ length: last - first + 1 }, (_, index) => target(first + index, more));
const bound = (address: string, port = 80, more: Partial<BoundSocket> = {}): BoundSocket[] => [
  { protocol: 'tcp', port, address, ...more },
];
const address = { inet: '10.252.1.5', inet6: 'fd6d::5' };
const task = (targets: TargetPort[], families: ('inet' | 'inet6')[] = ['inet']) => ({
  targets,
  addresses: families.map((family) => ({ networkId: 'ingress', address: address[family] })),
});
const problemOf = (targets: TargetPort[], sockets: BoundSocket[], families?: ('inet' | 'inet6')[]) =>
  judgeReadiness(task(targets, families), sockets).problem;

const ON_DEMAND = '; a port that is bound on demand needs `ready: false` or a health check';

describe('with one family', () => {
  it.each([
    ['nothing to wait for', [], [], undefined],
    ['no socket', [target(80)], [], 'nothing listens on 80/tcp'],
    ['another port', [target(80)], bound('0.0.0.0', 8080), 'nothing listens on 80/tcp'],
    ['another protocol', [target(80)], bound('0.0.0.0', 80, { protocol: 'udp' }), 'nothing listens on 80/tcp'],
    ['everywhere', [target(80)], bound('0.0.0.0'), undefined],
    ['both families', [target(80)], bound('::'), undefined],
    ['its own address', [target(80)], bound('10.252.1.5'), undefined],
    ['its own address through a dual-stack socket', [target(80)], bound('::ffff:10.252.1.5'), undefined],
    ['loopback', [target(80)], bound('127.0.0.1'), '80/tcp is only on 127.0.0.1; bind 0.0.0.0'],
    ['loopback of IPv6', [target(80)], bound('::1'), '80/tcp is only on ::1; bind 0.0.0.0'],
    [
      'IPv6 alone',
      [target(80)],
      bound('::', 80, { v6only: true }),
      '80/tcp is only on :: without IPv4 (IPV6_V6ONLY); bind 0.0.0.0',
    ],
  ] as const)('%s', (_, targets, sockets, problem) => {
    const expected = problem === undefined ? undefined : `the process runs but ${problem}`;
    expect(problemOf([...targets], [...sockets])).toBe(expected);
  });

  it('has one sentence for each fault, and ranges of ports', () => {
    const targets = [...ports(21_000, 21_010), target(80), target(8080), target(53, { protocol: 'udp' })];
    expect(problemOf(targets, [...bound('127.0.0.1'), ...bound('127.0.0.1', 8080)])).toBe(
      'the process runs but nothing listens on 21000-21010/tcp, 53/udp, ' +
        `and 80/tcp, 8080/tcp are only on 127.0.0.1; bind 0.0.0.0${ON_DEMAND}`,
    );
  });
});

describe('ports that are bound on demand', () => {
  it('do not have to be there', () => {
    const targets = [target(21), ...ports(21_000, 21_010, { ready: false })];
    expect(problemOf(targets, [])).toBe('the process runs but nothing listens on 21/tcp');
    expect(problemOf(targets, bound('0.0.0.0', 21))).toBeUndefined();
    expect(problemOf(ports(1, 3, { ready: false }), [])).toBeUndefined();
  });

  it('are the likely reason when another port of the task is bound', () => {
    const targets = [target(21), ...ports(21_000, 21_010)];
    expect(problemOf(targets, bound('0.0.0.0', 21))).toBe(
      `the process runs but nothing listens on 21000-21010/tcp${ON_DEMAND}`,
    );
  });

  it('are the likely reason when none of several is bound, as with RTP alone', () => {
    const rtp = ports(30_000, 30_003, { protocol: 'udp' });
    expect(problemOf(rtp, [])).toBe(`the process runs but nothing listens on 30000-30003/udp${ON_DEMAND}`);
    expect(problemOf(rtp.slice(0, 1), [])).toBe('the process runs but nothing listens on 30000/udp');
  });
});

it('sockets that accept no client are named, also where they do not decide', () => {
  const judge = (targets: TargetPort[], sockets: BoundSocket[]) => judgeReadiness(task(targets), sockets);
  const text = '80/tcp is only on 127.0.0.1; bind 0.0.0.0';
  const onDemand = [target(21), target(80, { ready: false })];
  expect(judge(onDemand, [...bound('0.0.0.0', 21), ...bound('127.0.0.1')])).toEqual({
    missing: [],
    accepting: 1,
    unreachable: text,
  });
  expect(judge([target(80)], bound('127.0.0.1')).unreachable).toBe(text);
  expect(judge([target(80)], []).unreachable).toBeUndefined();
});

describe('with two families', () => {
  const judge = (targets: TargetPort[], sockets: BoundSocket[]) =>
    judgeReadiness(task(targets, ['inet', 'inet6']), sockets);

  it.each([
    ['both by one socket', bound('::'), []],
    ['both by two sockets', [...bound('0.0.0.0'), ...bound('::', 80, { v6only: true })], []],
    ['both by its addresses', [...bound('10.252.1.5'), ...bound('fd6d::5')], []],
    ['IPv4 alone', bound('0.0.0.0'), ['inet6']],
    ['IPv6 alone', bound('::', 80, { v6only: true }), ['inet']],
    ['IPv4, and loopback of IPv6', [...bound('0.0.0.0'), ...bound('::1')], ['inet6']],
  ] as const)('%s', (_, sockets, families) => {
    expect(judge([target(80)], [...sockets])).toEqual({
      missing: families.map((family) => ({ protocol: 'tcp', target: 80, family })),
      accepting: 1,
    });
  });

  it('needs one of them for each target', () => {
    expect(judge([target(80), target(81)], bound('0.0.0.0'))).toEqual({
      problem: `the process runs but nothing listens on 81/tcp${ON_DEMAND}`,
      missing: [{ protocol: 'tcp', target: 80, family: 'inet6' }],
      accepting: 1,
    });
    expect(judge([target(80)], bound('127.0.0.1')).problem).toBe(
      'the process runs but 80/tcp is only on 127.0.0.1; bind ::',
    );
  });

  it('judges a port that is bound on demand once it is bound', () => {
    const targets = [target(80, { ready: false })];
    expect(judge(targets, []).missing).toEqual([]);
    expect(judge(targets, bound('0.0.0.0')).missing).toEqual([{ protocol: 'tcp', target: 80, family: 'inet6' }]);
  });
});

it('describes missing families', () => {
  const missing = (port: number, family: 'inet' | 'inet6') => ({ protocol: 'tcp' as const, target: port, family });
  expect(describeMissing([])).toEqual([]);
  expect(describeMissing([missing(80, 'inet6')])).toEqual(['80/tcp accepts no IPv6 clients; bind :: as well']);
  expect(describeMissing([missing(81, 'inet6'), missing(443, 'inet'), missing(80, 'inet6')])).toEqual([
    '443/tcp accepts no IPv4 clients; bind 0.0.0.0 as well',
    '80-81/tcp accept no IPv6 clients; bind :: as well',
  ]);
});
