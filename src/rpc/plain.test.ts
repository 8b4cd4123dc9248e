import { type DescMessage, fromBinary, type MessageShape, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MeshError } from '../base/errors.ts';
import type { Assignment, AssignmentDelta } from '../model/assignment.ts';
import { CAPABILITY_NAMES, type RequestedPrivileges } from '../model/capabilities.ts';
import type { TaskStatus } from '../model/cluster.ts';
import { LIMIT } from '../model/limits.ts';
import type { LogLimits, ServiceSpec } from '../model/spec.ts';
import { check } from './check.ts';
import { assignment as assignmentCheck, assignmentDelta } from './check-assignment.ts';
import { agentMessage, controlChecks, managerMessage } from './check-messages.ts';
import { serviceSpec } from './check-spec.ts';
import { readAgentMessage, readManagerMessage, writeManagerMessage } from './dispatch-messages.ts';
import {
  AgentMessageSchema,
  AssignmentDeltaSchema,
  AssignmentSchema,
  ManagerMessageSchema,
} from './gen/dispatch_pb.js';
import { ServiceSpecSchema, TaskStatusSchema } from './gen/mesh_pb.js';
import type { AgentMessage } from './messages.ts';
import { fromPlain, type Plain, toPlain } from './plain.ts';

const name = fc.stringMatching(/^[a-z0-9][a-zA-Z0-9_.-]{0,20}$/);
const id = fc.stringMatching(/^[a-z0-9]{12}$/);
const text = fc.string({ unit: 'grapheme', maxLength: 40 }).filter((value) => !value.includes('\0'));
const port = fc.integer({ min: 1, max: 65_535 });
const protocol = fc.constantFrom('tcp', 'udp', 'sctp') as fc.Arbitrary<'tcp' | 'udp' | 'sctp'>;
const mode = fc.constantFrom('ingress', 'host') as fc.Arbitrary<'ingress' | 'host'>;
const revision = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const duration = fc.integer({ min: 0, max: 86_400_000 });
const keys = fc.stringMatching(/^[A-Za-z][A-Za-z0-9_]{0,10}$/);
const environment = fc.dictionary(keys, text, { noNullPrototype: true });
const address = fc.constantFrom('10.252.1.5', '192.0.2.255', 'fd6d:6573:6800:1::5', '::1');
const subnet = fc.constantFrom(
  { family: 'inet' as const, cidr: '10.252.0.0/14', block: '10.252.1.0/24' },
  { family: 'inet6' as const, cidr: 'fd6d:6573:6800::/48', block: 'fd6d:6573:6800:1::/64' },
);
const many = <T>(each: fc.Arbitrary<T>) => fc.array(each, { maxLength: 4 });
const optional = <T extends object>(shape: { [K in keyof T]: fc.Arbitrary<T[K]> }) =>
  fc.record(shape, { requiredKeys: [], noNullPrototype: true }) as fc.Arbitrary<Partial<T>>;

const logLimits = fc.record(
  { maxSize: fc.integer({ ...LIMIT.logSize }), maxFiles: fc.integer({ min: 1, max: LIMIT.logFiles }) },
  { noNullPrototype: true },
);
const capabilities = fc.subarray([...CAPABILITY_NAMES], { minLength: 1 });

const spec: fc.Arbitrary<ServiceSpec> = fc
  .tuple(
    fc.record(
      {
        name,
        labels: environment,
        runtime: fc.constant('process' as const),
        command: fc.array(text, { minLength: 1, maxLength: 4 }),
        workingDir: text.map((value) => `/${value}`),
        environment,
        mode: fc.constantFrom('replicated' as const, 'global' as const),
        replicas: fc.integer({ min: 0, max: 10_000 }),
        constraints: many(
          fc.record(
            { key: text, operator: fc.constantFrom('==' as const, '!=' as const), value: text },
            { noNullPrototype: true },
          ),
        ),
        stopGracePeriod: duration,
      },
      { noNullPrototype: true },
    ),
    optional<{ user: string; log: LogLimits } & RequestedPrivileges>({
      user: name,
      log: logLimits,
      capAdd: capabilities,
      capDrop: capabilities,
      privileged: fc.constant(true),
    }),
    fc.record(
      {
        condition: fc.constantFrom('any' as const, 'on-failure' as const, 'none' as const),
        maxAttempts: fc.nat(),
        window: duration,
      },
      { noNullPrototype: true },
    ),
    optional<{ delay: number }>({ delay: duration }),
    many(
      fc
        .tuple(
          fc.record({ protocol, target: port, mode }, { noNullPrototype: true }),
          optional<{ published: number; ready: false }>({ published: port, ready: fc.constant(false) }),
        )
        .map(([base, extra]) => ({ ...base, ...extra })),
    ),
  )
  .map(
    ([base, extra, restart, delay, ports]) =>
      ({ ...base, ...extra, restart: { ...restart, ...delay }, ports }) as ServiceSpec,
  );

const peer = fc.record({
  nodeId: id,
  number: port,
  underlay: address,
  mac: fc.constant('02:6d:65:73:00:01'),
  blocks: many(subnet.map(({ family, block }) => ({ networkId: 'ingress', family, block }))),
});
const assignedPort = fc.record({
  protocol,
  published: port,
  mode,
  serviceId: id,
  serviceName: name,
  scheduler: fc.constant('rr'),
  endpoints: many(fc.record({ taskId: id, nodeId: id, address, port, weight: fc.integer({ min: 0, max: 1 }) })),
});
const taskFields = {
  id,
  serviceId: id,
  serviceName: name,
  slot: port,
  desired: fc.constantFrom('running' as const, 'shutdown' as const),
  addresses: many(address.map((value) => ({ networkId: 'ingress', address: value }))),
  process: fc
    .tuple(
      fc.record({ command: many(text), workingDir: fc.constant('/'), environment }),
      optional<{ user: string; log: LogLimits } & RequestedPrivileges>({
        user: name,
        log: logLimits,
        capAdd: capabilities,
        capDrop: capabilities,
        privileged: fc.constant(true),
      }),
    )
    .map(([base, extra]) => ({ ...base, ...extra })),
  targets: many(
    fc.record(
      { protocol, port, ready: fc.constant(false as const) },
      { requiredKeys: ['protocol', 'port'], noNullPrototype: true },
    ),
  ),
  redirects: fc.array(fc.record({ protocol, from: port, to: port }), { minLength: 1, maxLength: 4 }),
  stopGracePeriod: duration,
};
const { redirects, ...requiredFields } = taskFields;
const task = fc.oneof(fc.record(requiredFields), fc.record({ ...requiredFields, redirects }));
const assignment = fc.record({
  revision,
  self: fc.record({ nodeId: id, name, number: port, underlay: address }),
  networks: many(fc.record({ id, name, vni: fc.integer({ min: 1, max: 0xffffff }), subnets: many(subnet) })),
  peers: many(peer),
  ports: many(assignedPort),
  tasks: many(task),
}) as fc.Arbitrary<Assignment>;
const delta = fc.record({
  base: revision,
  revision,
  peers: many(peer),
  ports: many(assignedPort),
  tasks: many(task),
  removedPeers: many(id),
  removedPorts: many(fc.constantFrom('80/tcp', '65535/udp')),
  removedTasks: many(id),
}) as fc.Arbitrary<AssignmentDelta>;

/** Through the bytes, not only through the types. */
function bytes<D extends DescMessage>(desc: D, plain: Plain<MessageShape<D>>): Plain<MessageShape<D>> {
  return toPlain(desc, fromBinary(desc, toBinary(desc, fromPlain(desc, plain))));
}

test('a spec survives a round trip, and passes its check', () => {
  fc.assert(
    fc.property(spec, (before) => {
      expect(check(serviceSpec, bytes(ServiceSpecSchema, before), '')).toStrictEqual(before);
    }),
  );
});

test('an assignment and a delta survive a round trip, and pass their checks', () => {
  fc.assert(
    fc.property(assignment, delta, (before, change) => {
      expect(check(assignmentCheck, bytes(AssignmentSchema, before), '')).toEqual(before);
      expect(check(assignmentDelta, bytes(AssignmentDeltaSchema, change), '')).toEqual(change);
      for (const message of [
        { case: 'snapshot', value: before },
        { case: 'delta', value: change },
      ] as const) {
        expect(readManagerMessage(writeManagerMessage({ message }))).toEqual({ message });
      }
    }),
  );
});

test('a status survives a round trip', () => {
  const status: TaskStatus = {
    state: 'failed',
    message: 'ended',
    error: 'exit status 3',
    exitCode: -9,
    pid: 7,
    since: 5,
    ports: [{ protocol: 'udp', target: 53, published: 32_768 }],
    missing: [{ protocol: 'tcp', target: 80, family: 'inet6' }],
  };
  expect(bytes(TaskStatusSchema, status)).toStrictEqual(status);
  const { ports: _, missing: __, ...without } = status;
  expect(bytes(TaskStatusSchema, without)).toStrictEqual(without);
});

test('each kind of probe is a union in TypeScript and a oneof in the schema', () => {
  const times = { interval: 1, timeout: 1, retries: 1, startPeriod: 0, startInterval: 1 };
  for (const probe of [
    { kind: 'command', command: ['a', 'b'] },
    { kind: 'shell', command: 'a b' },
    { kind: 'tcp', port: 80 },
    { kind: 'http', port: 80, path: '/' },
  ] as const) {
    const before = { ...good, health: { probe, ...times } } as ServiceSpec;
    expect(fromPlain(ServiceSpecSchema, before).health?.probe?.kind.case).toBe(probe.kind);
    expect(check(serviceSpec, bytes(ServiceSpecSchema, before), '')).toStrictEqual(before);
  }
});

test('words that this version does not know are marked, and refused by the check', () => {
  const message = fromPlain(ServiceSpecSchema, good);
  message.mode = 99 as never;
  expect(toPlain(ServiceSpecSchema, message).mode).toBe('#99');
  expect(() => check(serviceSpec, toPlain(ServiceSpecSchema, message), '')).toThrow(/^mode: "#99" is not one of/);
  expect(() => fromPlain(ServiceSpecSchema, { ...good, mode: 'sometimes' as never })).toThrow(
    /"sometimes" is not one of replicated, global/,
  );
});

test('a key __proto__ is refused', () => {
  const message = fromPlain(ServiceSpecSchema, good);
  message.labels = JSON.parse('{"__proto__": "x"}');
  const arrived = fromBinary(ServiceSpecSchema, toBinary(ServiceSpecSchema, message));
  expect(() => check(serviceSpec, toPlain(ServiceSpecSchema, arrived), '')).toThrow(
    /labels: contains the key __proto__/,
  );
});

test('any bytes give a value or a MeshError from reading, never another exception', () => {
  fc.assert(
    fc.property(assignment, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }), (valid, changes) => {
      const message = fromPlain(ManagerMessageSchema, { message: { case: 'snapshot', value: valid } });
      const buffer = toBinary(ManagerMessageSchema, message);
      for (const [at, value] of changes) buffer[at % buffer.length] = value;
      for (const read of [readManagerMessage, readAgentMessage]) {
        try {
          read(buffer);
        } catch (thrown) {
          expect(thrown).toBeInstanceOf(MeshError);
          expect((thrown as MeshError).code).toBe('invalid');
        }
      }
    }),
    { numRuns: 500 },
  );
});

test('an answer that cannot be read is an error of its node and does not end the session', () => {
  const plan: AgentMessage = {
    message: {
      case: 'plan',
      value: { nodeId: 'n', nodeName: 'n', steps: ['x'.repeat(100_000)], error: '', revision: 1 },
    },
    probeId: 7,
  };
  expect(check(agentMessage, bytes(AgentMessageSchema, plan), '')).toMatchObject({
    message: { case: 'plan', value: { steps: [], error: 'its answer cannot be read' } },
    probeId: 7,
  });
});

test('a time that no clock can have is refused', () => {
  const status = { state: 'running', message: '', error: '' };
  const report = (since: number) => ({
    message: { case: 'tasks', value: { tasks: [{ taskId: 't', status: { ...status, since } }] } },
    probeId: 0,
  });
  expect(check(agentMessage, report(8.64e15), '')).toEqual(report(8.64e15));
  expect(() => check(agentMessage, report(8.64e15 + 2), '')).toThrow(/Invalid input/);
});

test('a message that this version does not know is undefined', () => {
  const unknown = Buffer.from([0xa2, 0x06, 0x01, 0x78]); // field 100, one byte
  expect(readAgentMessage(unknown)).toEqual({ message: undefined, probeId: 0 });
  expect(check(managerMessage, { message: undefined }, '')).toEqual({ message: undefined });
});

const good: ServiceSpec = {
  name: 'web',
  labels: {},
  runtime: 'process',
  command: ['true'],
  workingDir: '/',
  environment: {},
  mode: 'replicated',
  replicas: 1,
  constraints: [],
  restart: { condition: 'any', maxAttempts: 0, window: 0 },
  stopGracePeriod: 10_000,
  ports: [{ protocol: 'tcp', target: 80, published: 8080, mode: 'ingress' }],
};

test.each<[string, (spec: ServiceSpec) => void, RegExp]>([
  ['empty name', (m) => Object.assign(m, { name: '' }), /services\[0\]\.name: is empty/],
  ['name of a path', (m) => Object.assign(m, { name: '../etc' }), /may only contain/],
  ['no command', (m) => Object.assign(m, { command: [] }), /services\[0\]\.command: is empty/],
  ['NUL', (m) => Object.assign(m, { command: ['a\0b'] }), /command\[0\]: contains a NUL/],
  ['long argument', (m) => Object.assign(m, { command: ['x'.repeat(200_000)] }), /longer than 131071/],
  ['10^9 replicas', (m) => Object.assign(m, { replicas: 1e9 }), /replicas: 1000000000 is not between 0 and 10000/],
  ['mode', (m) => Object.assign(m, { mode: 'sometimes' }), /is not one of replicated, global/],
  ['port 0', (m) => Object.assign(m.ports[0]!, { published: 0 }), /ports\[0\]\.published: 0 is not between/],
  ['port 70000', (m) => Object.assign(m.ports[0]!, { target: 70_000 }), /target: 70000/],
  [
    'protocol',
    (m) => Object.assign(m.ports[0]!, { protocol: 'icmp' }),
    /protocol: "icmp" is not one of tcp, udp, sctp/,
  ],
  ['variable', (m) => Object.assign(m, { environment: { 'A=B': '' } }), /not the name of a variable/],
  ['relative directory', (m) => Object.assign(m, { workingDir: 'tmp' }), /not an absolute path/],
])('refuses a spec with %s', (_, spoil, message) => {
  const sent = structuredClone(good);
  spoil(sent);
  expect(() => check(controlChecks.apply, { services: [sent], dryRun: false }, '')).toThrow(message);
});

test.each(['010.0.0.1', '10.0.0', '::ffff:1.2.3.4%eth0', '1.2.3.4 ', 'FD00::1', ''])(
  'refuses the address %j',
  (value) => {
    const sent = {
      revision: 1,
      self: { nodeId: 'n1', name: 'n1', number: 1, underlay: value },
      networks: [],
      peers: [],
      ports: [],
      tasks: [],
    };
    expect(() => check(assignmentCheck, sent, 'assignment')).toThrow(/assignment\.self\.underlay/);
  },
);
