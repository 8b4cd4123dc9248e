import { type DescField, type DescMessage, type MessageShape, ScalarType } from '@bufbuild/protobuf';
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { readMapEntry, writeMap } from './map-entries.ts';
import { enumCodec, type Plain } from './plain.ts';
import { customOptions } from './schema-file.ts';

/*
 * Plain objects ↔ bytes without messages between, by the rules of plain.ts, for the stream to the agents: about a third
 * of the time to send, half to receive (README.md has figures). For each message type two functions are made at first
 * use, as source text like that of a code generator; for Endpoint:
 *
 *   write(p, w)       if (p.port !== undefined && p.port !== 0) { w.uint32(32); w.uint32(p.port); } …
 *   read(r, length)   const end = r.pos + length; let m = {taskId: "", …, port: 0};
 *                     while (r.pos < end) { const tag = r.uint32(); switch (tag) { case 32: m.port = r.uint32(); break; … } }
 *
 * Text, because the engine makes access to a property fast only where its name is in the program: a loop over fields
 * looks each name up. Making them takes some ms, which a command for people had better not spend.
 */

/** The bytes of `toBinary(fromPlain(…))`; throws MeshError `invalid` for a word that the schema does not have. */
export function plainToBinary<Desc extends DescMessage>(
  desc: Desc,
  plain: Plain<MessageShape<Desc>>,
): Uint8Array<ArrayBuffer> {
  const writer = new BinaryWriter();
  codecOf(desc).write(plain, writer);
  return writer.finish();
}

/** As `toPlain(fromBinary(…))`, but of a message that comes twice the last counts; throws Error for what is no message. */
export function plainFromBinary<Desc extends DescMessage>(desc: Desc, bytes: Uint8Array): Plain<MessageShape<Desc>> {
  return codecOf(desc).read(new BinaryReader(bytes), bytes.byteLength);
}

// biome-ignore lint/suspicious/noExplicitAny: values are of the type that the descriptor says
type Any = any;

interface Codec {
  write(plain: Any, writer: BinaryWriter): void;
  /** Fields that this version does not know are skipped. */
  read(reader: BinaryReader, length: number): Any;
}

const codecs = new WeakMap<DescMessage, Codec>();

function codecOf(desc: DescMessage): Codec {
  let codec = codecs.get(desc);
  if (codec === undefined) {
    codec = {} as Codec;
    codecs.set(desc, codec); // before its fields, which may be of the same type
    Object.assign(codec, compile(desc));
  }
  return codec;
}

function compile(desc: DescMessage): Codec {
  const known: Known = { writeMap, readMapEntry };
  const fields = desc.fields.toSorted((a, b) => a.number - b.number).map((field) => fieldCode(field, known));
  const unset = new Set(fields.flatMap((field) => field.unset ?? [])); // the fields of a oneof have one property
  const source = `
    return {
      write(p, w) {
        ${fields.map((field) => field.write).join('\n')}
      },
      read(r, length) {
        const end = r.pos + length;
        let m = {${[...unset].join(', ')}};
        while (r.pos < end) {
          const tag = r.uint32();
          switch (tag) {
            ${fields.map((field) => field.read).join('\n')}
            default: r.skip(tag & 7, tag >>> 3);
          }
        }
        return m;
      },
    };`;
  return new Function(...Object.keys(known), source)(...Object.values(known));
}

/** What the text of a codec refers to by name. */
type Known = Record<string, unknown>;

interface FieldCode {
  /** Statement with `p` and `w`. */
  write: string;
  /** Cases of the switch over tags, with `m` and `r`. */
  read: string;
  /** The property of a message where the field is not set; undefined if it is absent then. */
  unset?: string;
}

function fieldCode(field: DescField, known: Known): FieldCode {
  if (field.fieldKind === 'map') return mapCode(field);
  const value = valueCode(field, known);
  if (field.fieldKind === 'list') return listCode(field, value);
  if (field.oneof !== undefined) return oneofCode(field, field.oneof.localName, value);
  const { wireType, write, read, unset } = value;
  const tag = tagOf(field, wireType);
  const property = `p.${field.localName}`;
  const isAlwaysThere = field.presence === IMPLICIT;
  const notUnset = field.scalar === ScalarType.BYTES ? `${property}.length > 0` : `${property} !== ${unset}`;
  const condition = `${property} !== undefined${isAlwaysThere ? ` && ${notUnset}` : ''}`;
  return {
    write: `if (${condition}) { w.uint32(${tag}); ${write(property)} }`,
    read: `case ${tag}: m.${field.localName} = ${read}; break;`,
    ...(isAlwaysThere && { unset: `${field.localName}: ${unset}` }),
  };
}

/** google.protobuf.FeatureSet.FieldPresence: a field of proto3 that is not `optional`, where unset is the same as zero. */
const IMPLICIT = 2;

function tagOf({ number }: DescField, wireType: WireType): number {
  return ((number << 3) | wireType) >>> 0;
}

/** Numbers are written packed, and read either way. */
function listCode(field: DescField & { fieldKind: 'list' }, { wireType, write, read }: ValueCode): FieldCode {
  const { localName: name } = field;
  const tag = tagOf(field, wireType);
  const packed = tagOf(field, WireType.LengthDelimited);
  const isOptional = customOptions(field).optional_list;
  const push = `${isOptional ? `(m.${name} ??= [])` : `m.${name}`}.push(${read});`;
  const each = `case ${tag}: ${push} break;`;
  return {
    ...(!isOptional && { unset: `${name}: []` }),
    ...(field.packed
      ? {
          write: `if (p.${name}?.length > 0) { w.uint32(${packed}).fork(); for (const v of p.${name}) ${write('v')} w.join(); }`,
          read: `${each} case ${packed}: for (const stop = r.uint32() + r.pos; r.pos < stop; ) ${push} break;`,
        }
      : {
          write: `if (p.${name} !== undefined) for (const v of p.${name}) { w.uint32(${tag}); ${write('v')} }`,
          read: each,
        }),
  };
}

/** One case of the oneof `one`. */
function oneofCode(field: DescField, one: string, { wireType, write, read }: ValueCode): FieldCode {
  const tag = tagOf(field, wireType);
  const kind = `"${field.localName}"`;
  return customOptions(field.parent).union
    ? {
        write: `if (p.${one} === ${kind}) { w.uint32(${tag}); ${write('p')} }`,
        read: `case ${tag}: m = {${one}: ${kind}, ...${read}}; break;`,
      }
    : {
        write: `if (p.${one}?.case === ${kind}) { w.uint32(${tag}); ${write(`p.${one}.value`)} }`,
        read: `case ${tag}: m.${one} = {case: ${kind}, value: ${read}}; break;`,
        unset: `${one}: undefined`,
      };
}

/** Of one value: statement that writes the expression `v`, expression that reads one, and what unset is. */
interface ValueCode {
  wireType: WireType;
  write(v: string): string;
  read: string;
  unset: string;
}

function valueCode(field: DescField, known: Known): ValueCode {
  if (field.message !== undefined) {
    const codec = `codec${field.number}`;
    known[codec] = codecOf(field.message);
    return {
      wireType: WireType.LengthDelimited,
      write: (v) => `w.fork(); ${codec}.write(${v}, w); w.join();`,
      read: `${codec}.read(r, r.uint32())`,
      unset: 'undefined',
    };
  }
  if (field.enum !== undefined) {
    const words = `words${field.number}`;
    const codec = enumCodec(field.enum);
    known[words] = codec;
    return {
      wireType: WireType.Varint,
      write: (v) => `w.int32(${words}.fromPlain(${v}));`,
      read: `${words}.toPlain(r.int32())`,
      unset: JSON.stringify(codec.toPlain(0)),
    };
  }
  // The methods of protobuf-es' reader and writer have the names of the types.
  const type = ScalarType[field.scalar!].toLowerCase();
  const code = SCALARS[field.scalar!];
  if (code === undefined) throw new Error(`${field}: plain objects have no type for ${type}`);
  return { write: (v) => `w.${type}(${v});`, read: `r.${type}()`, ...code };
}

const SCALARS: Partial<Record<ScalarType, { wireType: WireType; unset: string; read?: string }>> = {
  [ScalarType.STRING]: { wireType: WireType.LengthDelimited, unset: '""', read: 'r.string(true)' },
  [ScalarType.BYTES]: { wireType: WireType.LengthDelimited, unset: 'new Uint8Array(0)' },
  [ScalarType.DOUBLE]: { wireType: WireType.Bit64, unset: '0' },
  [ScalarType.UINT64]: { wireType: WireType.Varint, unset: '0', read: 'Number(r.uint64())' },
  [ScalarType.BOOL]: { wireType: WireType.Varint, unset: 'false' },
  [ScalarType.INT32]: { wireType: WireType.Varint, unset: '0' },
  [ScalarType.UINT32]: { wireType: WireType.Varint, unset: '0' },
};

function mapCode(field: DescField & { fieldKind: 'map' }): FieldCode {
  if (field.mapKey !== ScalarType.STRING || field.scalar !== ScalarType.STRING) {
    throw new Error(`${field}: plain objects have maps from text to text only`);
  }
  const { localName: name } = field;
  const tag = tagOf(field, WireType.LengthDelimited);
  return {
    write: `if (p.${name} !== undefined) writeMap(w, ${tag}, p.${name});`,
    read: `case ${tag}: readMapEntry(r, r.uint32(), m.${name}); break;`,
    unset: `${name}: {}`,
  };
}
