import { describe, expect, test } from 'vitest';
import { errors, specs } from './test-kit.ts';

const text = (ports: string, mesh = '') =>
  `services: {a: {command: [x], ports: ${ports}, x-mesh: {runtime: process${mesh === '' ? '' : `, ready: ${mesh}`}}}}`;
/** Targets that a task does not have to bind. */
const onDemand = (ports: string, mesh?: string) =>
  specs(text(ports, mesh))[0]!.ports.flatMap(({ target, protocol, ready }) =>
    ready === false ? [`${target}/${protocol}`] : [],
  );

describe('ports that are bound on demand', () => {
  test.each([
    ['["21:21", "30000-30002:30000-30002"]', '[21]', ['30000/tcp', '30001/tcp', '30002/tcp']],
    ['["53:53/udp", "53:53"]', '[53/udp]', ['53/tcp']],
    ['["80-83:80-83"]', '["80-81", 83/tcp]', ['82/tcp']],
    ['["80:80", "81:80"]', '[80]', []],
    ['["80:80"]', '[]', ['80/tcp']],
    ['["80:80"]', undefined, []],
    ['[{target: 80, x-mesh: {ready: false}}, "81:81"]', undefined, ['80/tcp']],
    ['[{target: 80, x-mesh: {ready: "false"}}]', undefined, ['80/tcp']],
    ['[{target: 80, x-mesh: {ready: true}}]', undefined, []],
    ['[{target: 80, mode: host, published: 80, x-mesh: {ready: false}}]', undefined, ['80/tcp']],
  ])('%s with ready: %s', (ports, mesh, expected) => {
    expect(onDemand(ports, mesh)).toEqual(expected);
  });

  test.each([
    ['["80:80"]', '[81]', 'x-mesh.ready[0]: 81 is not a target port of this service; name target ports of `ports`; '],
    ['["53:53/udp"]', '[53]', 'x-mesh.ready[0]: 53 is not a target port of this service'],
    [
      '[]',
      '[80]',
      'x-mesh.ready[0]: 80 is not a target port of this service; name target ports of `ports`, which is missing',
    ],
    ['["80:80"]', '["8080:80"]', 'x-mesh.ready[0]: "8080:80" is not a port; write it like `ready: [21, 53/udp]`'],
    ['["80:80"]', '[{}]', 'x-mesh.ready[0]: must be a port, but is a map'],
    ['["80:80"]', '[80/tpc]', 'x-mesh.ready[0]: protocol "tpc" is unknown; choose tcp, udp or sctp'],
    ['["80:80"]', '[70000]', 'x-mesh.ready[0]: target port 70000 is outside 1-65535'],
    [
      '["80:80"]',
      'false',
      'x-mesh.ready: must be a list, but is the boolean false; write it like `ready: [21, 53/udp]`',
    ],
    [
      '[{target: 80, x-mesh: {ready: false}}]',
      '[80]',
      'x-mesh.ready: conflicts with `ready: false` of a port; remove one',
    ],
    [
      '[{target: 80, x-mesh: {ready: later}}]',
      '',
      'ports[0].x-mesh.ready: must be true or false, but is the text "later"',
    ],
  ])('%s with ready: %s is an error', (ports, mesh, message) => {
    expect(errors(text(ports, mesh))[0]).toContain(`services.a.${message}`);
  });
});
