import { type DescMessage, fromBinary, type Message, type MessageShape, toBinary } from '@bufbuild/protobuf';
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';
import type * as model from '../model/assignment.ts';
import type * as cluster from '../model/cluster.ts';
import type * as spec from '../model/spec.ts';
import { codecOf } from './codec.ts';
import type * as enums from './gen/mesh_pb.js';

/*
 * Messages of the schema as plain objects, by the schema alone, so that the model's own types travel: enums are
 * words ('start-first'), 64-bit numbers are numbers, and what is not set is absent. Options in mesh.proto name the few
 * places where the default would not fit. Nothing is checked here beyond types: see check-messages.ts.
 */

/** Messages that have a type in the model. */
interface ModelTypes {
  'meshd.v1.ServiceSpec': spec.ServiceSpec;
  'meshd.v1.PortSpec': spec.PortSpec;
  'meshd.v1.TaskStatus': cluster.TaskStatus;
  'meshd.v1.TaskStatusReport': { taskId: string; status: cluster.TaskStatus };
  'meshd.v1.Listener': cluster.Listener;
  'meshd.v1.PortCondition': cluster.PortCondition;
  'meshd.v1.Assignment': model.Assignment;
  'meshd.v1.AssignmentDelta': model.AssignmentDelta;
}

type Enums = {
  [K in keyof typeof enums as (typeof enums)[K] extends Record<string, string | number> ? K : never]: (typeof enums)[K];
};
type Dashed<S extends string> = S extends `${infer A}_${infer B}` ? `${Lowercase<A>}-${Dashed<B>}` : Lowercase<S>;
/** The words of a generated enum: `UpdateOrder` → `'start-first' | 'stop-first'`. */
type Words<E> = {
  [K in keyof Enums]: E extends Enums[K][keyof Enums[K]]
    ? Dashed<Exclude<keyof Enums[K], 'UNSPECIFIED'> & string>
    : never;
}[keyof Enums];

/** A message as the rest of meshd has it. */
export type Plain<T> =
  T extends Message<infer Name>
    ? Name extends keyof ModelTypes
      ? ModelTypes[Name]
      : { [K in keyof T as Exclude<K, '$typeName' | '$unknown'>]: PlainValue<Exclude<T[K], undefined>> }
    : never;

type PlainValue<V> = V extends bigint
  ? number
  : V extends number
    ? `${number}` extends `${V}` // plain `number extends V` holds for a numeric enum, too
      ? number
      : Words<V>
    : V extends string | boolean | Uint8Array | undefined
      ? V
      : V extends (infer Item)[]
        ? PlainValue<Item>[]
        : V extends Message
          ? Plain<V>
          : V extends { case: undefined }
            ? undefined
            : V extends { case: infer Case; value: infer Value }
              ? { case: Case; value: PlainValue<Value> }
              : { [K in keyof V]: PlainValue<V[K]> };

/** A plain object as bytes; throws MeshError `invalid` for a word that the schema does not have. */
export function encode<Desc extends DescMessage>(
  desc: Desc,
  plain: Plain<MessageShape<Desc>>,
): Uint8Array<ArrayBuffer> {
  const writer = new BinaryWriter();
  codecOf(desc).write(plain, writer);
  return writer.finish();
}

/** Bytes as a plain object; throws Error if they are no message. */
export function decode<Desc extends DescMessage>(desc: Desc, bytes: Uint8Array): Plain<MessageShape<Desc>> {
  return codecOf(desc).read(new BinaryReader(bytes), bytes.byteLength);
}

/** A message as a plain object. Through bytes, so that there is one mapping; Connect, which needs this, has few messages. */
export function toPlain<Desc extends DescMessage>(desc: Desc, message: MessageShape<Desc>): Plain<MessageShape<Desc>> {
  return decode(desc, toBinary(desc, message));
}

/** As toPlain, the other way, with the errors of encode. */
export function fromPlain<Desc extends DescMessage>(desc: Desc, plain: Plain<MessageShape<Desc>>): MessageShape<Desc> {
  return fromBinary(desc, encode(desc, plain));
}
