import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import {
  type BpfHandle,
  bpfMapById,
  bpfMapEntries,
  bpfMapInfo,
  bpfProgramById,
  bpfProgramInfo,
  createBpfMap,
  deleteFromBpfMap,
  loadBpfProgram,
  lookUpBpfMap,
  testBpfProgram,
  updateBpfMap,
} from './index.ts';

const openHandles: BpfHandle[] = [];
afterEach(() => {
  for (const handle of openHandles.splice(0)) handle.close();
});
function closeLater(handle: BpfHandle): BpfHandle {
  openHandles.push(handle);
  return handle;
}

const HASH = { name: 'test_hash', type: 1, keySize: 4, valueSize: 8, maxEntries: 100 };
const word = (value: number) => Buffer.from(Uint32Array.of(value).buffer);
const long = (value: number) => Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
/** r0 = `result`; exit */
const returning = (result: number) =>
  Buffer.concat([Buffer.from('b7000000', 'hex'), word(result), Buffer.from('9500000000000000', 'hex')]);

describe('BPF maps', () => {
  it('store entries, read one by one and all at once', () => {
    const map = closeLater(createBpfMap(HASH));
    expect(lookUpBpfMap(map, word(1))).toBeUndefined();
    for (let key = 0; key < 100; key++) updateBpfMap(map, word(key), long(key * 2));
    expect(lookUpBpfMap(map, word(7))).toEqual(long(14));
    const { count, keys, values } = bpfMapEntries(map);
    expect(count).toBe(100);
    const read = Array.from({ length: count }, (_, index) => [
      keys.readUInt32LE(index * 4),
      Number(values.readBigUInt64LE(index * 8)),
    ]);
    expect(read.sort((a, b) => a[0]! - b[0]!)).toEqual(Array.from({ length: 100 }, (_, key) => [key, key * 2]));
    expect(deleteFromBpfMap(map, word(7))).toBe(true);
    expect(deleteFromBpfMap(map, word(7))).toBe(false);
    expect(bpfMapEntries(map).count).toBe(99);
    updateBpfMap(map, word(200), long(1));
    expect(() => updateBpfMap(map, word(201), long(1))).toThrowError(expect.objectContaining({ code: 'E2BIG' }));
  });

  it('of type array list every index', () => {
    const map = closeLater(
      createBpfMap({ name: 'test_array', type: 2, keySize: 4, valueSize: 4, maxEntries: 131_072 }),
    );
    updateBpfMap(map, word(131_071), word(9));
    const { count, keys, values } = bpfMapEntries(map);
    expect([count, keys.readUInt32LE(131_071 * 4), values.readUInt32LE(131_071 * 4), values.readUInt32LE(0)]).toEqual([
      131_072, 131_071, 9, 0,
    ]);
  });

  it('are found by id, with their properties', () => {
    const map = closeLater(createBpfMap(HASH));
    const { id, ...rest } = bpfMapInfo(map);
    expect(rest).toEqual(HASH);
    updateBpfMap(map, word(1), long(5));
    const again = closeLater(bpfMapById(id)!);
    expect(again.fd).not.toBe(map.fd);
    map.close();
    map.close();
    expect(lookUpBpfMap(again, word(1))).toEqual(long(5));
    expect(() => map.fd).toThrowError(expect.objectContaining({ code: 'EBADF' }));
    expect(bpfMapById(0xfffffff)).toBeUndefined();
  });

  it('reject keys and values of the wrong size, and values that are not a map', () => {
    const map = closeLater(createBpfMap(HASH));
    expect(() => lookUpBpfMap(map, Buffer.alloc(3))).toThrow('a key of this map has 4 bytes');
    expect(() => updateBpfMap(map, word(1), word(1))).toThrow('a value of this map has 8 bytes');
    expect(() => createBpfMap({ ...HASH, name: 'a_name_of_16_byt' })).toThrowError(
      expect.objectContaining({ code: 'EINVAL' }),
    );
    expect(() => lookUpBpfMap({} as BpfHandle, word(1))).toThrow(TypeError);
  });

  it('are not inherited by children', () => {
    const map = closeLater(createBpfMap(HASH));
    const [, flags = '0'] = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${map.fd}`, 'utf8')) ?? [];
    // O_CLOEXEC, asm-generic/fcntl.h
    expect(Number.parseInt(flags, 8) & 0o2000000).not.toBe(0);
  });
});

describe('BPF programs', () => {
  it('load, run and are found by id', () => {
    const program = closeLater(loadBpfProgram('test_program', returning(7)));
    const { id, name, tag, mapIds } = bpfProgramInfo(program);
    expect([name, mapIds]).toEqual(['test_program', []]);
    expect(tag).toMatch(/^[0-9a-f]{16}$/);
    expect(bpfProgramInfo(closeLater(bpfProgramById(id)!)).tag).toBe(tag);
    const packet = Buffer.alloc(60, 1);
    expect(testBpfProgram(program, packet, 5)).toEqual({ action: 7, mark: 5, packet });
    expect(bpfProgramById(0xfffffff)).toBeUndefined();
  });

  it('rejected by the verifier throw with its log', () => {
    // r0 = r5; exit: r5 was never written.
    const wrong = Buffer.from('bf500000000000009500000000000000', 'hex');
    expect(() => loadBpfProgram('wrong', wrong)).toThrowError(
      expect.objectContaining({ code: 'EACCES', syscall: 'bpf', log: expect.stringContaining('R5 !read_ok') }),
    );
    expect(() => loadBpfProgram('odd', Buffer.alloc(7))).toThrowError(expect.objectContaining({ code: 'EINVAL' }));
  });
});
