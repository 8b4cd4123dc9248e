import { err, MeshError, ok, type Result } from '../base/errors.ts';

/** Netlink uses the byte order of the machine, except in attributes marked as big endian. */
export const LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** include/uapi/linux/netlink.h */
export const NLA_F_NESTED = 0x8000;
export const NLA_F_NET_BYTEORDER = 0x4000;
const NLA_TYPE_MASK = 0x3fff;
const NLA_HEADER = 4;
/** nla_len is 16 bit. */
const MAX_ATTRIBUTE = 0xffff;
/** Far above any message of ours; a larger request is a bug of the caller. */
const MAX_MESSAGE = 1 << 20;

const text = new TextEncoder();
const utf8 = new TextDecoder();

/** Whether each character is one byte, and none is NUL. */
function isAscii(value: string): boolean {
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i);
    if (code === 0 || code > 0x7f) return false;
  }
  return true;
}

/** Text up to the first NUL; bytes that are not UTF-8 become U+FFFD. */
export function decodeText(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return utf8.decode(end === -1 ? bytes : bytes.subarray(0, end));
}

/** An object that cannot be written in netlink's fields; thrown by encoders, for it is the caller's mistake. */
export function encodeError(what: string): MeshError {
  return new MeshError('invalid', `cannot encode for the kernel: ${what}`);
}

/**
 * Runs a decoder and turns the MeshError that a reader below throws for the first invalid byte into an error Result,
 * prefixed with what was being decoded. Other exceptions are bugs and are rethrown.
 */
export function toDecodeResult<T>(what: string, body: () => T): Result<T> {
  try {
    return ok(body());
  } catch (thrown) {
    if (!(thrown instanceof MeshError)) throw thrown;
    return err(new MeshError('invalid', `netlink ${what} message cannot be read: ${thrown.message}`));
  }
}

/** The error that a decoder throws inside `toDecodeResult` for invalid bytes. */
export function decodeError(what: string): MeshError {
  return new MeshError('invalid', what);
}

/** A number cut to its field would be another valid object: a port, a mark, the table of another program. */
function inRange(value: number, max: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= max) return value;
  throw encodeError(`${value} is no whole number from 0 to ${max}`);
}

/** Where small messages are written one after the other: each with memory of its own would cost far more than it holds. */
const SLAB = 64 * 1024;
let slab = new DataView(new ArrayBuffer(0));
/** Where in `slab` the next message begins; from here on it is all zeros. */
let free = 0;

/**
 * Appends fixed headers and attributes to one growing buffer. Fixed fields (`u8`, `u16` …) are written as they come;
 * attributes (`put…`) bring header and padding with them.
 */
export class AttributeWriter {
  #view: DataView;
  #start = 0;
  #length = 0;
  #capacity: number;

  constructor(capacity = 192) {
    this.#capacity = capacity;
    if (capacity > SLAB / 8) {
      this.#view = new DataView(new ArrayBuffer(capacity));
      return;
    }
    if (free + capacity > slab.byteLength) {
      slab = new DataView(new ArrayBuffer(SLAB));
      free = 0;
    }
    this.#view = slab;
    this.#start = free;
    free += capacity;
  }

  /** Makes room for `size` bytes; returns where in the view they go. */
  #reserve(size: number): number {
    const end = this.#length + size;
    if (end > this.#capacity) this.#grow(end);
    const at = this.#start + this.#length;
    this.#length = end;
    return at;
  }

  #grow(end: number): void {
    if (end > MAX_MESSAGE) throw encodeError(`message of more than ${MAX_MESSAGE} bytes; send it in parts`);
    const grown = new Uint8Array(Math.max(end, this.#capacity * 2));
    grown.set(this.#written());
    this.#view = new DataView(grown.buffer);
    this.#start = 0;
    this.#capacity = grown.length;
  }

  #written(): Uint8Array {
    return new Uint8Array(this.#view.buffer, this.#start, this.#length);
  }

  u8(value: number): this {
    const at = this.#reserve(1);
    this.#view.setUint8(at, inRange(value, 0xff));
    return this;
  }

  u16(value: number): this {
    const at = this.#reserve(2);
    this.#view.setUint16(at, inRange(value, 0xffff), LITTLE_ENDIAN);
    return this;
  }

  u32(value: number): this {
    const at = this.#reserve(4);
    this.#view.setUint32(at, inRange(value, 0xffff_ffff), LITTLE_ENDIAN);
    return this;
  }

  be16(value: number): this {
    const at = this.#reserve(2);
    this.#view.setUint16(at, inRange(value, 0xffff));
    return this;
  }

  be32(value: number): this {
    const at = this.#reserve(4);
    this.#view.setUint32(at, inRange(value, 0xffff_ffff));
    return this;
  }

  zeros(count: number): this {
    this.#reserve(count);
    return this;
  }

  raw(bytes: Uint8Array): this {
    this.#copy(bytes, this.#reserve(bytes.length));
    return this;
  }

  #copy(bytes: Uint8Array, at: number): void {
    for (let i = 0; i < bytes.length; i++) this.#view.setUint8(at + i, bytes[i]!);
  }

  /** Header and room for `size` bytes padded to 4; returns the position of the value. */
  #attribute(type: number, size: number): number {
    if (size + NLA_HEADER > MAX_ATTRIBUTE) throw encodeError(`attribute ${type & NLA_TYPE_MASK} of ${size} bytes`);
    const at = this.#reserve(NLA_HEADER + ((size + 3) & ~3));
    this.#view.setUint16(at, NLA_HEADER + size, LITTLE_ENDIAN);
    this.#view.setUint16(at + 2, type, LITTLE_ENDIAN);
    return at + NLA_HEADER;
  }

  put(type: number, bytes: Uint8Array): this {
    this.#copy(bytes, this.#attribute(type, bytes.length));
    return this;
  }

  /** Bytes at the beginning of a longer field. */
  putField(type: number, bytes: Uint8Array, size: number): this {
    this.#copy(bytes, this.#attribute(type, size));
    return this;
  }

  putU8(type: number, value: number): this {
    const at = this.#attribute(type, 1);
    this.#view.setUint8(at, inRange(value, 0xff));
    return this;
  }

  putU16(type: number, value: number): this {
    const at = this.#attribute(type, 2);
    this.#view.setUint16(at, inRange(value, 0xffff), LITTLE_ENDIAN);
    return this;
  }

  putU32(type: number, value: number): this {
    const at = this.#attribute(type, 4);
    this.#view.setUint32(at, inRange(value, 0xffff_ffff), LITTLE_ENDIAN);
    return this;
  }

  putBe16(type: number, value: number): this {
    const at = this.#attribute(type, 2);
    this.#view.setUint16(at, inRange(value, 0xffff));
    return this;
  }

  putBe32(type: number, value: number): this {
    const at = this.#attribute(type, 4);
    this.#view.setUint32(at, inRange(value, 0xffff_ffff));
    return this;
  }

  /** NUL-terminated; `limit` counts the NUL, as the kernel's constants (IFNAMSIZ …) do. */
  putString(type: number, value: string, limit: number): this {
    if (value.length < limit && isAscii(value)) {
      const at = this.#attribute(type, value.length + 1);
      for (let i = 0; i < value.length; i++) this.#view.setUint8(at + i, value.charCodeAt(i));
      return this;
    }
    const bytes = text.encode(value);
    if (bytes.length + 1 > limit || bytes.includes(0)) {
      throw encodeError(`${JSON.stringify(value)}: at most ${limit - 1} bytes and no NUL`);
    }
    this.#copy(bytes, this.#attribute(type, bytes.length + 1));
    return this;
  }

  putFlag(type: number): this {
    this.#attribute(type, 0);
    return this;
  }

  /** Whatever `body` appends becomes the value; pass NLA_F_NESTED in `type` where the kernel asks for it. */
  nested(type: number, body: () => void): this {
    const start = this.#length;
    this.#attribute(type, 0);
    body();
    const size = this.#length - start;
    if (size > MAX_ATTRIBUTE)
      throw encodeError(`nested attribute ${type & NLA_TYPE_MASK} of ${size} bytes; send it in parts`);
    this.#view.setUint16(this.#start + start, size, LITTLE_ENDIAN);
    return this;
  }

  /** What was written; the writer must not be used after it. */
  finish(): Uint8Array {
    // The unused rest of the buffer is used for the next message.
    if (this.#view === slab && this.#start + this.#capacity === free) free = (this.#start + this.#length + 7) & ~7;
    return this.#written();
  }
}

/**
 * Attributes of one level. Reading throws a MeshError that `decoding` turns into an error Result: on a length below the
 * header or beyond the end, and on a value shorter than its type. Repeated attributes: the last one counts, as in the
 * kernel's nla_parse.
 */
export class Attributes {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** type, start, end of each attribute. */
  readonly #index: number[] = [];

  constructor(bytes: Uint8Array, offset = 0) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (offset > bytes.length) throw decodeError(`${bytes.length} bytes where a header of ${offset} is due`);
    let at = offset;
    while (at + NLA_HEADER <= bytes.length) {
      const length = this.#view.getUint16(at, LITTLE_ENDIAN);
      if (length < NLA_HEADER || at + length > bytes.length) {
        throw decodeError(`attribute at byte ${at} claims ${length} of ${bytes.length - at} bytes`);
      }
      this.#index.push(this.#view.getUint16(at + 2, LITTLE_ENDIAN) & NLA_TYPE_MASK, at + NLA_HEADER, at + length);
      at += (length + 3) & ~3;
    }
  }

  /** Start of the value, or -1 when the attribute is not there. */
  #find(type: number, size: number): number {
    const index = this.#index;
    for (let i = index.length - 3; i >= 0; i -= 3) {
      if (index[i] !== type) continue;
      const start = index[i + 1]!;
      if (index[i + 2]! - start < size) {
        throw decodeError(`attribute ${type} has ${index[i + 2]! - start} bytes instead of ${size}`);
      }
      return start;
    }
    return -1;
  }

  has(type: number): boolean {
    return this.#find(type, 0) !== -1;
  }

  bytes(type: number): Uint8Array | undefined {
    const index = this.#index;
    for (let i = index.length - 3; i >= 0; i -= 3) {
      if (index[i] === type) return this.#bytes.subarray(index[i + 1], index[i + 2]);
    }
    return undefined;
  }

  u8(type: number): number | undefined {
    const at = this.#find(type, 1);
    return at === -1 ? undefined : this.#bytes[at];
  }

  u16(type: number): number | undefined {
    const at = this.#find(type, 2);
    return at === -1 ? undefined : this.#view.getUint16(at, LITTLE_ENDIAN);
  }

  u32(type: number): number | undefined {
    const at = this.#find(type, 4);
    return at === -1 ? undefined : this.#view.getUint32(at, LITTLE_ENDIAN);
  }

  i32(type: number): number | undefined {
    const at = this.#find(type, 4);
    return at === -1 ? undefined : this.#view.getInt32(at, LITTLE_ENDIAN);
  }

  /** As a number: exact up to 2^53, which counters of packets and bytes reach after centuries. */
  u64(type: number): number | undefined {
    const at = this.#find(type, 8);
    if (at === -1) return undefined;
    const first = this.#view.getUint32(at, LITTLE_ENDIAN);
    const second = this.#view.getUint32(at + 4, LITTLE_ENDIAN);
    return LITTLE_ENDIAN ? second * 0x1_0000_0000 + first : first * 0x1_0000_0000 + second;
  }

  be16(type: number): number | undefined {
    const at = this.#find(type, 2);
    return at === -1 ? undefined : this.#view.getUint16(at);
  }

  be32(type: number): number | undefined {
    const at = this.#find(type, 4);
    return at === -1 ? undefined : this.#view.getUint32(at);
  }

  /** See decodeText. */
  string(type: number): string | undefined {
    const bytes = this.bytes(type);
    return bytes === undefined ? undefined : decodeText(bytes);
  }

  nested(type: number): Attributes | undefined {
    const bytes = this.bytes(type);
    return bytes === undefined ? undefined : new Attributes(bytes);
  }

  /** Every attribute in order, for levels that are lists. */
  list(): { type: number; bytes: Uint8Array }[] {
    const all: { type: number; bytes: Uint8Array }[] = [];
    for (let i = 0; i < this.#index.length; i += 3) {
      all.push({ type: this.#index[i]!, bytes: this.#bytes.subarray(this.#index[i + 1], this.#index[i + 2]) });
    }
    return all;
  }
}
