import { type DescMessage, fromBinary, toBinary } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { expect, test } from 'vitest';
import { AgentMessageSchema, AssignedPortSchema, file_dispatch, ManagerMessageSchema } from './gen/dispatch_pb.js';
import {
  file_mesh,
  HealthProbeSchema,
  MeasuredPathSchema,
  NodeAnswerSchema,
  ServiceSpecSchema,
} from './gen/mesh_pb.js';
import { fromPlain, toPlain } from './plain.ts';
import { plainFromBinary, plainToBinary } from './plain-binary.ts';

/* The reference is protobuf-es with plain.ts. */

const reference = {
  write: (desc: DescMessage, plain: unknown) => toBinary(desc, fromPlain(desc, plain as never)),
  read: (desc: DescMessage, bytes: Uint8Array): unknown => toPlain(desc, fromBinary(desc, bytes)),
};

test.each([...file_mesh.messages, ...file_dispatch.messages])('$typeName without any field', (desc) => {
  const plain = plainFromBinary(desc, new Uint8Array());
  expect(plain).toStrictEqual(reference.read(desc, new Uint8Array()));
  expect(plainToBinary(desc, plain)).toEqual(new Uint8Array());
  expect(plainToBinary(desc, {} as never)).toEqual(new Uint8Array());
});

const endpoint = { taskId: 'té', nodeId: 'x'.repeat(300), address: '::1', port: 65_535, weight: 0 };
const assignedPort = {
  protocol: 'sctp',
  published: 80,
  mode: 'host',
  serviceId: '',
  serviceName: 'web',
  scheduler: 'mh',
  endpoints: [endpoint, { ...endpoint, weight: 1 }],
  schedulerFlags: ['mh-fallback', 'mh-port'],
  fallback: '',
  persistence: { timeout: 0, prefix: { inet: 32, inet6: 128 } },
  idleTimeout: 0,
  policy: 'prefer-local',
  addresses: ['192.0.2.0/24'],
};
const status = { state: 'failed', message: '', error: 'é\u{1f600}', pid: 7, exitCode: -9, since: 2 ** 53 - 1 };
const change = {
  base: 0,
  revision: 2 ** 40,
  peers: [],
  tasks: [],
  removedPeers: [],
  removedPorts: [],
  removedTasks: ['a'],
};

const examples: [string, DescMessage, unknown][] = [
  ['lists, enums and optional fields', AssignedPortSchema, assignedPort],
  [
    'a case of a oneof',
    ManagerMessageSchema,
    { message: { case: 'delta', value: { ...change, ports: [assignedPort] } } },
  ],
  ['a case without fields', AgentMessageSchema, { message: { case: 'heartbeat', value: {} }, probeId: 0 }],
  ['no case', AgentMessageSchema, { message: undefined, probeId: 7 }],
  [
    'numbers beyond 32 bits and below zero',
    AgentMessageSchema,
    { message: { case: 'tasks', value: { tasks: [{ taskId: 'a', status }] } }, probeId: 0 },
  ],
  ['a union', HealthProbeSchema, { kind: 'http', port: 80, path: '/' }],
  ['bytes', NodeAnswerSchema, { nodeId: 'a', nodeName: 'b', body: new Uint8Array([0, 255]), error: '' }],
  ['floating point', MeasuredPathSchema, { node: 'a', address: 'b', small: 0.1 }],
  [
    'maps and words with an option',
    ServiceSpecSchema,
    {
      ...(reference.read(ServiceSpecSchema, new Uint8Array()) as object),
      labels: { '': 'empty', a: '' },
      environment: JSON.parse('{"__proto__": "x", "A": "b"}'),
      constraints: [{ key: 'k', operator: '!=', value: 'v' }],
    },
  ],
];

test.each(examples)('%s', (_, desc, plain) => {
  const bytes = plainToBinary(desc, plain as never);
  expect(bytes).toEqual(reference.write(desc, plain));
  expect(plainFromBinary(desc, bytes)).toStrictEqual(plain);
  expect(reference.read(desc, bytes)).toStrictEqual(plain);
});

test.each(examples)('%s: cut off anywhere, both read the same or refuse', (_, desc, plain) => {
  const bytes = reference.write(desc, plain);
  const outcome = (read: () => unknown) => {
    try {
      return read();
    } catch {
      return 'refused';
    }
  };
  for (let length = 0; length < bytes.length; length++) {
    const cut = bytes.slice(0, length);
    expect(outcome(() => plainFromBinary(desc, cut))).toStrictEqual(outcome(() => reference.read(desc, cut)));
  }
});

test('unknown fields are skipped, whatever their type; a list of numbers may be packed or not', () => {
  const bytes = new BinaryWriter()
    .tag(100, WireType.Varint)
    .uint32(7)
    .tag(101, WireType.Bit32)
    .fixed32(7)
    .tag(102, WireType.Bit64)
    .double(7)
    .tag(103, WireType.LengthDelimited)
    .string('seven')
    .tag(104, WireType.StartGroup)
    .tag(1, WireType.Varint)
    .uint32(7)
    .tag(104, WireType.EndGroup)
    .tag(8, WireType.Varint)
    .uint32(1)
    .tag(8, WireType.LengthDelimited)
    .fork()
    .uint32(2)
    .uint32(99)
    .join()
    .finish();
  const port = plainFromBinary(AssignedPortSchema, bytes);
  expect(port).toStrictEqual(reference.read(AssignedPortSchema, bytes));
  expect(port.schedulerFlags).toEqual(['sh-fallback', 'sh-port', '#99']);
});

test('a field of another type than expected is one that this version does not know', () => {
  const bytes = new BinaryWriter().tag(2, WireType.LengthDelimited).string('eighty').finish();
  expect(plainFromBinary(AssignedPortSchema, bytes).published).toBe(0);
});

test('a word that the schema does not have is refused', () => {
  const wrong = { ...assignedPort, protocol: 'icmp' } as never;
  expect(() => plainToBinary(AssignedPortSchema, wrong)).toThrow(/"icmp" is not one of tcp, udp, sctp/);
});
