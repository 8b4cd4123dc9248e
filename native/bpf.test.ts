import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import {
  type BpfHandle,
  bpfMapById,
  bpfMapEntries,
  bpfMapInfo,
  bpfObjectConstants,
  bpfObjectMaps,
  bpfProgramById,
  bpfProgramInfo,
  deleteFromBpfMap,
  loadBpfObject,
  lookUpBpfMap,
  readBpfObject,
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

const ROUTER_IN = readBpfObject('router-in');
const HOST_IN = readBpfObject('host-in');
const TASKS = { name: 'mesh_tasks', type: 1, keySize: 4, valueSize: 4, maxEntries: 4_096 };
const word = (value: number) => Buffer.from(Uint32Array.of(value).buffer);

/** mesh_tasks, alone. */
function tasksMap(): BpfHandle {
  const { maps } = loadBpfObject(ROUTER_IN, { name: 'test', maps: {} });
  for (const map of Object.values(maps)) closeLater(map);
  return maps['mesh_tasks']!;
}

describe('BPF maps', () => {
  it('store entries, read one by one and all at once', () => {
    const map = tasksMap();
    expect(lookUpBpfMap(map, word(1))).toBeUndefined();
    for (let key = 0; key < 4_096; key++) updateBpfMap(map, word(key), word(key * 2));
    expect(lookUpBpfMap(map, word(7))).toEqual(word(14));
    const { count, keys, values } = bpfMapEntries(map);
    expect(count).toBe(4_096);
    const read = Array.from({ length: count }, (_, index) => [
      keys.readUInt32LE(index * 4),
      values.readUInt32LE(index * 4),
    ]);
    expect(read.sort((a, b) => a[0]! - b[0]!)).toEqual(Array.from({ length: 4_096 }, (_, key) => [key, key * 2]));
    expect(() => updateBpfMap(map, word(4_096), word(1))).toThrowError(expect.objectContaining({ code: 'E2BIG' }));
    expect(deleteFromBpfMap(map, word(7))).toBe(true);
    expect(deleteFromBpfMap(map, word(7))).toBe(false);
    expect(bpfMapEntries(map).count).toBe(4_095);
  });

  it('are found by id, with their properties', () => {
    const map = tasksMap();
    const { id, ...rest } = bpfMapInfo(map);
    expect(rest).toEqual(TASKS);
    updateBpfMap(map, word(1), word(5));
    const again = closeLater(bpfMapById(id)!);
    expect(again.fd).not.toBe(map.fd);
    map.close();
    map.close();
    expect(lookUpBpfMap(again, word(1))).toEqual(word(5));
    expect(() => map.fd).toThrowError(expect.objectContaining({ code: 'EBADF' }));
    expect(bpfMapById(0xfffffff)).toBeUndefined();
  });

  it('reject keys and values of the wrong size, and values that are not a map', () => {
    const map = tasksMap();
    expect(() => lookUpBpfMap(map, Buffer.alloc(3))).toThrow('a key of this map has 4 bytes');
    expect(() => updateBpfMap(map, word(1), Buffer.alloc(8))).toThrow('a value of this map has 4 bytes');
    expect(() => lookUpBpfMap({} as BpfHandle, word(1))).toThrow(TypeError);
  });

  it('are not inherited by children', () => {
    const [, flags = '0'] = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${tasksMap().fd}`, 'utf8')) ?? [];
    // O_CLOEXEC, asm-generic/fcntl.h
    expect(Number.parseInt(flags, 8) & 0o2000000).not.toBe(0);
  });
});

describe('BPF objects', () => {
  const constants = { own_address: Buffer.of(192, 0, 2, 1), lb_link: 3 };

  it('define maps and constants', () => {
    expect(bpfObjectMaps(ROUTER_IN)).toContainEqual(TASKS);
    const values = bpfObjectConstants(HOST_IN, constants);
    expect(values.includes(Buffer.of(192, 0, 2, 1))).toBe(true);
    expect(values).not.toEqual(bpfObjectConstants(HOST_IN, { ...constants, lb_link: 4 }));
    expect(() => bpfObjectConstants(HOST_IN, { no_such: 1 })).toThrow('unknown constant');
    expect(() => bpfObjectConstants(HOST_IN, { own_address: Buffer.alloc(5) })).toThrow('own_address has 4 bytes');
    expect(() => bpfObjectMaps(Buffer.from('no ELF file'))).toThrowError(expect.objectContaining({ syscall: 'bpf' }));
    expect(() => bpfObjectMaps(ROUTER_IN.subarray(0, 2_000))).toThrowError(expect.objectContaining({ syscall: 'bpf' }));
  });

  it('load with the given maps, run and are found by id', () => {
    const tasks = tasksMap();
    const loaded = loadBpfObject(ROUTER_IN, { name: 'test', constants: {}, maps: { mesh_tasks: tasks } });
    for (const handle of [loaded.program!, ...Object.values(loaded.maps)]) closeLater(handle);
    expect(loaded.maps['mesh_tasks']).toBe(tasks);
    const { id, name, tag, mapIds } = bpfProgramInfo(loaded.program!);
    expect(name).toBe('mesh_router_in');
    expect(mapIds).toContain(bpfMapInfo(tasks).id);
    expect(tag).toMatch(/^[0-9a-f]{16}$/);
    expect(bpfProgramInfo(closeLater(bpfProgramById(id)!)).tag).toBe(tag);
    const packet = Buffer.alloc(60, 1);
    // TC_ACT_UNSPEC: no packet of IPv4.
    expect(testBpfProgram(loaded.program!, packet, 5)).toEqual({ action: -1, mark: 5, packet });
    expect(bpfProgramById(0xfffffff)).toBeUndefined();
  });

  it('rejected by the verifier throw with its log', () => {
    // A map whose values are too short for what the program reads.
    const { maps } = loadBpfObject(HOST_IN, { name: 'test', maps: {} });
    for (const map of Object.values(maps)) closeLater(map);
    const wrong = { mesh_tasks: maps['mesh_peers']! };
    expect(() => loadBpfObject(ROUTER_IN, { name: 'test', constants: {}, maps: wrong })).toThrowError(
      expect.objectContaining({
        code: 'EACCES',
        syscall: 'bpf',
        log: expect.stringContaining('invalid access to map value'),
      }),
    );
  });
});
