// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of the compose-spec look like that
import { describe, expect, test } from 'vitest';
import type { ServiceSpec } from '../model/spec.ts';
import { errors, service, specOf, specs } from './test-kit.ts';

const defaults: ServiceSpec = {
  name: 'a',
  labels: {},
  runtime: 'process',
  command: ['x'],
  workingDir: '/',
  environment: {},
  mode: 'replicated',
  replicas: 1,
  constraints: [],
  restart: { condition: 'any', maxAttempts: 0, window: 0 },
  stopGracePeriod: 10_000,
  ports: [],
};

describe('what a service may say', () => {
  test('every default is filled in', () => {
    expect(specOf('')).toEqual(defaults);
  });

  test('a whole service', () => {
    const text = `
version: "3.8"
name: demo
x-common: &common
  labels: {team: net}
  working_dir: /tmp
services:
  web:
    <<: *common
    entrypoint: /usr/bin/env -i
    command: python3 -m http.server "80"
    user: 1000
    cap_add: [net_raw, CAP_NET_ADMIN, NET_RAW]
    cap_drop: [ALL]
    environment:
      - B=2
      - A=x=y
    ports: ["8080:80", "5353:53/udp", 90, {target: "70", published: "7000", protocol: TCP, name: api, mode: ingress}]
    stop_grace_period: 1m30s
    working_dir: \${HOME_DIR}
    deploy:
      replicas: 3
      labels: [tier=front]
      placement:
        constraints: [node.labels.zone!=a, NODE.Hostname == node1]
      restart_policy: {condition: on-failure, delay: 500ms, max_attempts: 3, window: 1.5s}
    x-mesh: {runtime: process}
    x-note: anything
`;
    expect(specs(text)).toEqual([
      {
        name: 'web',
        labels: { team: 'net', tier: 'front' },
        runtime: 'process',
        command: ['/usr/bin/env', '-i', 'python3', '-m', 'http.server', '80'],
        workingDir: '/srv',
        user: '1000',
        capAdd: ['NET_ADMIN', 'NET_RAW'],
        capDrop: ['ALL'],
        environment: { A: 'x=y', B: '2' },
        mode: 'replicated',
        replicas: 3,
        constraints: [
          { key: 'node.labels.zone', operator: '!=', value: 'a' },
          { key: 'node.hostname', operator: '==', value: 'node1' },
        ],
        restart: { condition: 'on-failure', delay: 500, maxAttempts: 3, window: 1500 },
        stopGracePeriod: 90_000,
        ports: [
          { protocol: 'udp', target: 53, published: 5353, mode: 'ingress' },
          { protocol: 'tcp', target: 70, published: 7000, mode: 'ingress' },
          { protocol: 'tcp', target: 80, published: 8080, mode: 'ingress' },
          { protocol: 'tcp', target: 90, mode: 'ingress' },
        ],
      },
    ]);
  });

  test('scalars of text fields stay as they are written', () => {
    expect(specOf('environment: {A: 1.0, B: 0x10, C: true, D: 2024-01-01, E: ""}').environment).toEqual({
      A: '1.0',
      B: '0x10',
      C: 'true',
      D: '2024-01-01',
      E: '',
    });
    expect(specs('services: {a: {command: [sleep, 60, 1e3], x-mesh: {runtime: process}}}')[0]!.command).toEqual([
      'sleep',
      '60',
      '1e3',
    ]);
  });

  test('global services have no replicas', () => {
    expect(specOf('deploy: {mode: global}').mode).toBe('global');
    expect(errors(service('deploy: {mode: global, replicas: 2}'))).toEqual([
      's.yaml:1:91: services.a.deploy.replicas: `replicas` is not allowed with mode global; ' +
        'remove `replicas`: a global service runs one task on every node',
    ]);
  });

  test('replicas may be none, or come out of a variable', () => {
    expect(specOf('deploy: {replicas: 0}').replicas).toBe(0);
    expect(specOf('deploy: {replicas: "${N:-4}"}').replicas).toBe(4);
  });

  test('documents are merged, comments and empty documents count nothing', () => {
    const one = (name: string) => `services: {${name}: {command: x, x-mesh: {runtime: process}}}`;
    expect(specs(`# hello\n---\n${one('a')}\n---\n---\n${one('b')}\n...\n`).map(({ name }) => name)).toEqual([
      'a',
      'b',
    ]);
  });

  test('merge keys: the map itself wins, then the first merged', () => {
    const text = `
x-a: &a {environment: {A: "1"}, user: one}
x-b: &b {user: two, working_dir: /b}
services: {a: {<<: [*a, *b], command: x, environment: {B: "2"}, x-mesh: {runtime: process}}}`;
    expect(specs(text)[0]).toMatchObject({ environment: { B: '2' }, user: 'one', workingDir: '/b' });
  });
});
