import { type BinaryReader, type BinaryWriter, WireType } from '@bufbuild/protobuf/wire';

/* Maps from text to text: in the encoding, a list of messages with the fields key = 1 and value = 2. */

const KEY = (1 << 3) | WireType.LengthDelimited;
const VALUE = (2 << 3) | WireType.LengthDelimited;

export function writeMap(writer: BinaryWriter, tag: number, map: Record<string, string>): void {
  for (const [key, value] of Object.entries(map)) {
    writer.uint32(tag).fork().uint32(KEY).string(key).uint32(VALUE).string(value).join();
  }
}

/** Adds the entry that the next `length` bytes are. */
export function readMapEntry(reader: BinaryReader, length: number, map: Record<string, string>): void {
  const end = reader.pos + length;
  let key = '';
  let value = '';
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag === KEY) key = reader.string(true);
    else if (tag === VALUE) value = reader.string(true);
    else reader.skip(tag & 7, tag >>> 3);
  }
  // Assigning to `__proto__` would set the prototype, and the check of keys would not see it.
  if (key !== '__proto__') map[key] = value;
  else Object.defineProperty(map, key, { value, enumerable: true });
}
