import {
  create,
  type DescEnum,
  type DescField,
  type DescMessage,
  type DescOneof,
  type Message,
  type MessageShape,
  ScalarType,
} from '@bufbuild/protobuf';
import { MeshError } from '../base/errors.ts';
import type * as model from '../model/assignment.ts';
import type * as cluster from '../model/cluster.ts';
import type * as spec from '../model/spec.ts';
import type * as enums from './gen/mesh_pb.js';
import { customOptions } from './schema-file.ts';

/*
 * Messages of the schema ↔ plain objects, driven by the schema alone, so that the model's own types travel: enums are
 * words ('start-first'), 64-bit numbers are numbers, and what is not set is absent. Options (options.proto) name the few
 * places where the default would not fit. Nothing is checked here beyond types: see check-messages.ts.
 * Dispatch goes from and to bytes at once, by the same rules: plain-binary.ts.
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

/** A message as a plain object. */
export function toPlain<Desc extends DescMessage>(desc: Desc, message: MessageShape<Desc>): Plain<MessageShape<Desc>> {
  return codecOf(desc).toPlain(message) as Plain<MessageShape<Desc>>;
}

/** A plain object as a message; throws MeshError `invalid` for a word that the schema does not have. */
export function fromPlain<Desc extends DescMessage>(desc: Desc, plain: Plain<MessageShape<Desc>>): MessageShape<Desc> {
  return codecOf(desc).fromPlain(plain) as MessageShape<Desc>;
}

// biome-ignore lint/suspicious/noExplicitAny: values are of the type that the descriptor says
type Any = any;
type Convert = (value: Any) => Any;

interface Codec {
  toPlain: Convert;
  fromPlain: Convert;
}

const codecs = new Map<string, Codec>();

/** Made at first use and kept: an assignment has thousands of messages of a few kinds. */
function codecOf(desc: DescMessage): Codec {
  let codec = codecs.get(desc.typeName);
  if (codec === undefined) {
    codec = customOptions(desc).union ? unionCodec(desc) : messageCodec(desc);
    codecs.set(desc.typeName, codec);
  }
  return codec;
}

function messageCodec(desc: DescMessage): Codec {
  const empty: Any = create(desc);
  const members = desc.members.map((member) =>
    member.kind === 'oneof' ? oneofMember(member) : fieldMember(member, empty[member.localName]),
  );
  return {
    toPlain(message) {
      const plain: Any = {};
      for (const member of members) member.toPlain(message, plain);
      return plain;
    },
    fromPlain(plain) {
      const message: Any = { $typeName: desc.typeName };
      for (const member of members) member.fromPlain(plain, message);
      return message;
    },
  };
}

interface Member {
  toPlain(message: Any, plain: Any): void;
  fromPlain(plain: Any, message: Any): void;
}

/** `unset`: what a message holds where the field is not set; undefined for optional fields and messages. */
function fieldMember(field: DescField, unset: unknown): Member {
  const { localName: name } = field;
  if (field.fieldKind === 'list') {
    const { toPlain, fromPlain } = valueCodec(field);
    const mapped = (values: Any[], each: Convert) => (each === same ? values : values.map(each));
    const isOptional = customOptions(field).optional_list;
    return {
      toPlain(message, plain) {
        if (!isOptional || message[name].length > 0) plain[name] = mapped(message[name], toPlain);
      },
      fromPlain(plain, message) {
        message[name] = plain[name] === undefined ? [] : mapped(plain[name], fromPlain);
      },
    };
  }
  if (field.fieldKind === 'map') {
    return {
      toPlain(message, plain) {
        plain[name] = message[name];
      },
      fromPlain(plain, message) {
        message[name] = plain[name] ?? {};
      },
    };
  }
  const { toPlain, fromPlain } = valueCodec(field);
  return {
    toPlain(message, plain) {
      if (message[name] !== undefined) plain[name] = toPlain(message[name]);
    },
    fromPlain(plain, message) {
      if (plain[name] !== undefined) message[name] = fromPlain(plain[name]);
      else if (unset !== undefined) message[name] = unset;
    },
  };
}

function oneofMember(oneof: DescOneof): Member {
  const { localName: name } = oneof;
  const cases = new Map(oneof.fields.map((field) => [field.localName, valueCodec(field)]));
  const mapped = (one: Any, direction: keyof Codec) =>
    one?.case === undefined ? undefined : { case: one.case, value: cases.get(one.case)![direction](one.value) };
  return {
    toPlain(message, plain) {
      plain[name] = mapped(message[name], 'toPlain');
    },
    fromPlain(plain, message) {
      message[name] = mapped(plain[name], 'fromPlain') ?? { case: undefined };
    },
  };
}

/** Of a message that is one oneof of messages: the name of the case becomes a property beside the fields of its value. */
function unionCodec(desc: DescMessage): Codec {
  const { localName: name } = desc.oneofs[0]!;
  const inner = messageCodec(desc);
  return {
    toPlain(message) {
      const one = inner.toPlain(message)[name];
      return one === undefined ? {} : { [name]: one.case, ...one.value };
    },
    fromPlain: ({ [name]: kind, ...value }) => inner.fromPlain({ [name]: kind && { case: kind, value } }),
  };
}

const same: Convert = (value) => value;

function valueCodec(field: DescField): Codec {
  if (field.message !== undefined) {
    const { message } = field;
    // Looked up late: messages may contain themselves.
    return {
      toPlain: (value) => codecOf(message).toPlain(value),
      fromPlain: (value) => codecOf(message).fromPlain(value),
    };
  }
  if (field.enum !== undefined) return enumCodec(field.enum);
  const is64 = field.scalar === ScalarType.UINT64 || field.scalar === ScalarType.INT64;
  return is64 ? { toPlain: Number, fromPlain: BigInt } : { toPlain: same, fromPlain: same };
}

/** A value that this version does not know becomes `#7`; 0 becomes `unspecified`. Neither is a word of the model. */
export function enumCodec(desc: DescEnum): Codec {
  const words = new Map<number, string>();
  const numbers = new Map<string, number>();
  for (const value of desc.values) {
    const text = customOptions(value).word ?? value.localName.toLowerCase().replaceAll('_', '-');
    words.set(value.number, text);
    numbers.set(text, value.number);
  }
  return {
    toPlain: (number) => words.get(number) ?? `#${number}`,
    fromPlain(text) {
      const number = numbers.get(text);
      if (number !== undefined) return number;
      const known = [...numbers.keys()].filter((one) => one !== 'unspecified');
      throw new MeshError('invalid', `${JSON.stringify(text)} is not one of ${known.join(', ')}`);
    },
  };
}
