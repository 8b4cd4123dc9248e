import { describe, expect, test } from 'vitest';
import type { PortSpec } from '../model/spec.ts';
import { errors, service, specOf } from './test-kit.ts';

const port = (mesh: string, more = ''): PortSpec =>
  specOf(`ports: [{target: 80, published: 8080, ${more}x-mesh: {${mesh}}}]`).ports[0]!;

const plain: PortSpec = { protocol: 'tcp', target: 80, published: 8080, mode: 'ingress' };

describe('x-mesh of a port', () => {
  const cases: [string, Partial<PortSpec>][] = [
    ['', {}],
    ['scheduler: rr, policy: cluster', {}],
    ['scheduler: wlc, fallback: rr', { scheduler: 'wlc' }],
    ['fallback: lc, scheduler: mh', { scheduler: 'mh', fallback: 'lc' }],
    [
      'scheduler: sh, scheduler_flags: [sh-port, sh-fallback, sh-port]',
      { scheduler: 'sh', schedulerFlags: ['sh-fallback', 'sh-port'] },
    ],
    ['policy: prefer-local', { policy: 'prefer-local' }],
    ['idle_timeout: 2h', { idleTimeout: 7_200_000 }],
    ['persistence: 5m', { persistence: { timeout: 300_000, prefix: { inet: 32, inet6: 128 } } }],
    [
      'scheduler: mh, persistence: {timeout: 90s, mask: /24, mask6: 64}',
      { scheduler: 'mh', persistence: { timeout: 90_000, prefix: { inet: 24, inet6: 64 } } },
    ],
    [
      'persistence: {timeout: 1s, mask: 255.255.240.0, mask6: "/48"}',
      { persistence: { timeout: 1_000, prefix: { inet: 20, inet6: 48 } } },
    ],
    ['persistence: {timeout: 1s, mask: 16}', { persistence: { timeout: 1_000, prefix: { inet: 16, inet6: 128 } } }],
    [
      'ingress: {nodes: [node.labels.edge == true, node.role != manager]}',
      {
        nodes: [
          { key: 'node.labels.edge', operator: '==', value: 'true' },
          { key: 'node.role', operator: '!=', value: 'manager' },
        ],
      },
    ],
    ['ingress: {}', {}],
    [
      'ingress: {addresses: [192.0.2.7, "FD00::/8", 10.1.2.3/8]}',
      { addresses: ['10.0.0.0/8', '192.0.2.7/32', 'fd00::/8'] },
    ],
    [
      'allow_from: ["2001:DB8::1/33", 10.0.0.0/8, 10.9.9.9/8, 0.0.0.0/0, "::/0"]',
      { allowFrom: ['0.0.0.0/0', '10.0.0.0/8', '2001:db8::/33', '::/0'] },
    ],
    ['allow_from: ["fd00::ffff/127"]', { allowFrom: ['fd00::fffe/127'] }],
    ['allow_from: ["::ffff:0:0/90"]', { allowFrom: ['::ffc0:0:0/90'] }],
  ];
  test.each(cases)('%s', (mesh, expected) => {
    expect(port(mesh)).toEqual({ ...plain, ...expected });
  });

  test('a restricted port in mode host', () => {
    expect(
      port('ingress: {addresses: [10.0.0.1]}, allow_from: [10.0.0.0/8], idle_timeout: 1h', 'mode: host, '),
    ).toEqual({
      ...plain,
      mode: 'host',
      addresses: ['10.0.0.1/32'],
      allowFrom: ['10.0.0.0/8'],
      idleTimeout: 3_600_000,
    });
  });

  const refused: [string, RegExp][] = [
    ['zz: 1', /x-mesh\.zz: unknown key `zz`; use one of ingress, allow_from, .*policy, ready, or remove it/],
    ['schedular: rr', /x-mesh\.schedular: unknown key `schedular`; did you mean `scheduler`\?/],
    ['ingress: {node: []}', /x-mesh\.ingress\.node: unknown key `node`; did you mean `nodes`\?/],
    [
      'ingress: {nodes: []}',
      /x-mesh\.ingress\.nodes: is an empty list; name at least one constraint, or remove the key/,
    ],
    ['ingress: {nodes: [zone == a]}', /x-mesh\.ingress\.nodes\[0\]: "zone" is not a constraint key/],
    ['ingress: {nodes: node.id == a}', /nodes: must be a list, but is the text .*; write it like `nodes: \[/],
    ['ingress: {addresses: []}', /x-mesh\.ingress\.addresses: is an empty list; name at least one network/],
    ['ingress: {addresses: 10.0.0.1}', /addresses: must be a list, but is the text "10\.0\.0\.1"; write it like/],
    ['allow_from: []', /x-mesh\.allow_from: is an empty list/],
    ['allow_from: [10]', /allow_from\[0\]: must be a network, but is the number 10/],
    ['allow_from: [10.0.0.0/33]', /allow_from\[0\]: the prefix length 33 of "10\.0\.0\.0\/33" is more than 32; choose/],
    ['allow_from: ["::/129"]', /prefix length 129 .* choose one of 0-128/],
    ['allow_from: [10.0.0/8]', /allow_from\[0\]: "10\.0\.0\/8" is not an address or a network; write it like/],
    ['allow_from: [010.0.0.1]', /is not an address or a network/],
    ['allow_from: [10.0.0.0/255.0.0.0]', /is not an address or a network/],
    ['allow_from: [10.0.0.0/8/8]', /is not an address or a network/],
    ['allow_from: ["::ffff:10.0.0.0/104"]', /IPv4 network written as IPv6; write 10\.0\.0\.0\/8$/],
    [
      `allow_from: [${Array.from({ length: 257 }, (_, n) => `10.0.${n >> 8}.${n & 255}`).join()}]`,
      /allow_from: has more than 256 networks; merge them/,
    ],
    ['scheduler: wrrr', /x-mesh\.scheduler: must be one of rr, wrr, lc, wlc, sh, mh, sed, nq, but is the text "wrrr"/],
    ['scheduler_flags: [sh-port]', /scheduler_flags: sh-port is not a flag of the scheduler rr; use `scheduler: sh`/],
    ['scheduler: sh, scheduler_flags: [mh-port]', /mh-port is not a flag of the scheduler sh; use `scheduler: mh`/],
    ['scheduler: sh, scheduler_flags: []', /scheduler_flags: is an empty list; name at least one flag/],
    ['scheduler: sh, scheduler_flags: sh-port', /scheduler_flags: must be a list, but is the text/],
    ['scheduler: lc, fallback: lc', /fallback: the fallback equals the scheduler; name another one, or remove it: /],
    ['fallback: rr', /the fallback equals the scheduler; name another one, or remove it$/],
    ['policy: nearby', /policy: must be one of cluster, prefer-local, local, but is/],
    ['idle_timeout: 300', /idle_timeout: must be a duration, but is the number 300; write a number with a unit/],
    ['idle_timeout: 1500ms', /idle_timeout: is not a number of whole seconds/],
    ['idle_timeout: 0s', /idle_timeout: is not a number of whole seconds/],
    ['persistence: 300', /persistence\.timeout: must be a duration, but is the number 300/],
    ['persistence: true', /persistence: must be a map, but is the boolean true; write it like `persistence: 5m`/],
    ['persistence: {}', /persistence\.timeout: must be a duration, but is empty/],
    ['persistence: {timeout: 5m, maks: 24}', /persistence\.maks: unknown key `maks`; did you mean `mask`\?/],
    ['persistence: {timeout: 5m, mask: 0}', /mask: must be a mask, but is the number 0; write it like \/24 or 255/],
    ['persistence: {timeout: 5m, mask: 33}', /choose one of \/1-\/32/],
    ['persistence: {timeout: 5m, mask: 255.0.255.0}', /must be a mask, but is the text "255\.0\.255\.0"/],
    ['persistence: {timeout: 5m, mask6: 129}', /mask6: must be a mask, .* write it like \/64; choose one of \/1-\/128/],
  ];
  test.each(refused)('%s is refused', (mesh, message) => {
    const found = errors(service(`ports: [{target: 80, x-mesh: {${mesh}}}]`));
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(message);
  });

  test.each([
    ['scheduler: sh', 'scheduler'],
    ['scheduler: sh, scheduler_flags: [sh-port]', 'scheduler'],
    ['persistence: 5m', 'persistence'],
    ['policy: local', 'policy'],
  ])('%s has no effect in mode host', (mesh, key) => {
    const [first] = errors(service(`ports: [{target: 80, mode: host, x-mesh: {${mesh}}}]`));
    expect(first).toContain(`x-mesh.${key}: \`${key}\` has no effect in mode host`);
  });

  test('nodes has no effect in mode host', () => {
    const mesh = '{ingress: {nodes: [node.id == a]}}';
    expect(errors(service(`ports: [{target: 80, mode: host, x-mesh: ${mesh}}]`))[0]).toMatch(
      /x-mesh\.ingress\.nodes: `nodes` has no effect in mode host.*deploy\.placement\.constraints/,
    );
  });
});
