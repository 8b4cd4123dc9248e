import { describe, expect, test } from 'vitest';
import { errors, service, specOf, specs } from './test-kit.ts';

describe('ports', () => {
  const cases: [string, { published?: number; target: number; protocol: string }[]][] = [
    ['"80"', [{ target: 80, protocol: 'tcp' }]],
    ['":80"', [{ target: 80, protocol: 'tcp' }]],
    ['"65535:1/sctp"', [{ published: 65_535, target: 1, protocol: 'sctp' }]],
    [
      '"8000-8001:80-81/udp"',
      [
        { published: 8000, target: 80, protocol: 'udp' },
        { published: 8001, target: 81, protocol: 'udp' },
      ],
    ],
    ['{target: 80, published: 0}', [{ target: 80, protocol: 'tcp' }]],
    ['{target: 80, published: "8080", x-note: 1}', [{ published: 8080, target: 80, protocol: 'tcp' }]],
  ];
  test.each(cases)('%s', (written, expected) => {
    expect(specOf(`ports: [${written}]`).ports).toEqual(expected.map((port) => ({ ...port, mode: 'ingress' })));
  });

  const refused: [string, RegExp][] = [
    ['"0:80"', /published port 0 is outside 1-65535/],
    ['0', /target port 0 is outside/],
    ['"70000:80"', /published port 70000 is outside 1-65535; choose one of 1-65535$/],
    ['"80-79:80"', /published ports 80-79 end before they begin; write 79-80/],
    ['"80-79"', /80-79/],
    ['"1-3:1-2"', /3 published ports for 2 target ports/],
    ['"8000-8010:80"', /11 published ports for 1 target port/],
    ['"127.0.0.1:80"', /host address that is ambiguous; write "192.0.2.7:8080:80"/],
    ['"::1:80:80"', /is ambiguous.*"\[2001:db8::7\]:8080:80"/],
    ['"localhost:80:80"', /"localhost" is not an address or a network/],
    ['"10.0.0.256:80:80"', /"10\.0\.0\.256" is not an address/],
    ['"[fe80::1%eth0]:80:80"', /is not an address/],
    ['"[fe80::1]:80:80"', /"fe80::1" is link-local: .*; use another address of the node$/],
    ['{target: 80, host_ip: "febf::1"}', /host_ip: "febf::1" is link-local/],
    ['"[::ffff:10.0.0.1]:80:80"', /IPv4 network written as IPv6; write 10\.0\.0\.1$/],
    ['{target: 80, host_ip: 10.0.0.0/8}', /ports\[0\]\.host_ip: "10\.0\.0\.0\/8" is not an address; .*x-mesh/],
    ['{target: 80, host_ip: 7}', /host_ip: must be an address, but is the number 7/],
    [
      '{target: 80, host_ip: 10.0.0.1, x-mesh: {ingress: {addresses: [10.0.0.2]}}}',
      /host_ip: conflicts with `x-mesh\.ingress\.addresses`; remove one of them/,
    ],
    ['{target: 80, mode: hots}', /ports\[0\]\.mode: mode "hots" is unknown; choose ingress or host/],
    ['"80/icmp"', /protocol "icmp" is unknown; choose tcp, udp or sctp/],
    ['"http"', /target port "http" is not a number/],
    ['80.5', /not a number/],
    ['"1-2000:1-2000"', /2000 ports are more than the 1024/],
    ['{published: 80}', /ports\[0\]\.target: is missing; write it like `target: 80`/],
    ['{target: 80, published: "80-90"}', /ports\[0\]\.published: 11 published ports for 1/],
    ['{target: 80-90}', /target is a range/],
    ['{target: [1]}', /target: must be a number or a text, but is a list/],
    ['{target: 80, publishd: 80}', /publishd: unknown key `publishd`; did you mean `published`\?/],
    ['[]', /must be a map, but is a list/],
    ['null', /must be a map, but is empty/],
  ];
  test.each(refused)('%s is refused', (written, message) => {
    const found = errors(service(`ports: [${written}]`));
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(message);
  });

  test('host addresses', () => {
    expect(specOf('ports: ["127.0.0.1:8080:80"]').ports).toEqual([
      { protocol: 'tcp', target: 80, published: 8080, mode: 'ingress', addresses: ['127.0.0.1/32'] },
    ]);
    const [first, second] = specOf('ports: ["[FD00::1]:90-91:80-81/udp"]').ports;
    expect([first?.published, first?.addresses]).toEqual([90, ['fd00::1/128']]);
    expect([second?.published, second?.addresses]).toEqual([91, ['fd00::1/128']]);
    expect(specOf('ports: ["10.0.0.1::80"]').ports[0]).toEqual({
      protocol: 'tcp',
      target: 80,
      mode: 'ingress',
      addresses: ['10.0.0.1/32'],
    });
    expect(specOf('ports: [{target: 80, host_ip: "::"}]').ports[0]?.addresses).toEqual(['::/0']);
    expect(specOf('ports: ["0.0.0.0:80:80"]').ports[0]?.addresses).toEqual(['0.0.0.0/0']);
    expect(specOf('ports: [{target: 80, host_ip: ""}]').ports[0]).not.toHaveProperty('addresses');
  });

  test('one port on several host addresses is one port', () => {
    const written = '"[::1]:80:80", "127.0.0.1:80:80", {target: 80, published: 80, host_ip: 10.0.0.1}';
    expect(specOf(`ports: [${written}]`).ports).toEqual([
      {
        protocol: 'tcp',
        target: 80,
        published: 80,
        mode: 'ingress',
        addresses: ['10.0.0.1/32', '127.0.0.1/32', '::1/128'],
      },
    ]);
    for (const other of ['"80:80"', '"10.0.0.1:80:81"', '{target: 80, published: 80, host_ip: 10.0.0.1, mode: host}']) {
      expect(errors(service(`ports: ["127.0.0.1:80:80", ${other}]`))[0]).toMatch(/80\/tcp is already published/);
    }
  });

  test('mode host', () => {
    expect(specOf('ports: [{target: 80, published: 8080, mode: host}]').ports).toEqual([
      { protocol: 'tcp', target: 80, published: 8080, mode: 'host' },
    ]);
    for (const none of ['', ', published: 0', ', published: ""']) {
      const [port] = specOf(`ports: [{target: 80, mode: HOST${none}}]`).ports;
      expect(port).toEqual({ protocol: 'tcp', target: 80, mode: 'host' });
    }
  });

  test('host ports of two services may meet, no others', () => {
    const two = (first: string, second: string) => `services:
  a: {command: x, x-mesh: {runtime: process}, ports: [{target: 1, published: 80, mode: ${first}}]}
  b: {command: x, x-mesh: {runtime: process}, ports: [{target: 2, published: 80, mode: ${second}}]}
`;
    expect(specs(two('host', 'host')).map(({ ports }) => ports[0]?.published)).toEqual([80, 80]);
    expect(errors(two('host', 'ingress'))[0]).toMatch(/80\/tcp is already published by service a/);
    expect(errors(two('ingress', 'host'))[0]).toMatch(/80\/tcp is already published by service a/);
    const twice = '{target: 1, published: 80, mode: host}, {target: 2, published: 80, mode: host}';
    expect(errors(service(`ports: [${twice}]`))[0]).toMatch(/80\/tcp is already published by service a/);
    const picked = '{target: 1, mode: host}, {target: 1, mode: host}';
    expect(errors(service(`ports: [${picked}]`))[0]).toMatch(/automatic port for 1\/tcp is already published/);
  });

  test('a port published twice names both places', () => {
    const text = `
services:
  a: {command: x, x-mesh: {runtime: process}, ports: ["80:1", "80:1/udp"]}
  b:
    command: x
    x-mesh: {runtime: process}
    ports:
      - 70-90:70-90
`;
    expect(errors(text)).toEqual([
      's.yaml:8:9: services.b.ports[0]: published port 80/tcp is already published by service a at s.yaml:3:55; ' +
        'choose another port, or remove one of them',
    ]);
    expect(errors(service('ports: ["8090:80", "8090:81"]'))[0]).toMatch(/8090\/tcp is already published by service a/);
    expect(errors(service('ports: [80, 80]'))[0]).toMatch(/automatic port for 80\/tcp is already published/);
  });

  test('too many in one service, or in all', () => {
    expect(errors(service('ports: ["1-600:1-600", "1001-1600:1-600"]'))[0]).toMatch(
      /1200 ports are more than the 1024/,
    );
    const many = Array.from(
      { length: 66 },
      (_, n) => `s${n}: {command: x, x-mesh: {runtime: process}, ports: [1-1000]}`,
    );
    expect(errors(`services: {${many.join(', ')}}`)[0]).toMatch(/more than 65535 ports/);
  });
});
