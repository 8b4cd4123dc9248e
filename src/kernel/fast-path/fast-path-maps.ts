import {
  type BpfHandle,
  bpfMapById,
  bpfMapEntries,
  bpfMapInfo,
  bpfProgramById,
  bpfProgramInfo,
  deleteFromBpfMap,
  lookUpBpfMap,
  updateBpfMap,
} from '../../../native/index.ts';
import type { IpAddress } from '../../model/address.ts';
import type { FastPathProgram } from '../../model/kinds/fast-path.ts';
import { formatAddress } from '../../netlink/ip.ts';
import {
  addressBytes,
  createMaps,
  isConstantsMap,
  isMapName,
  type MapName,
  mapShape,
  mapsOfProgram,
  type NodeMaps,
  objectOfMap,
} from './fast-path-objects.ts';

/** The maps of this node's programs, kept open: they outlive a filter that another program deletes. */
export interface FastPathMaps {
  /** Uses the maps of an attached program as the node's, where it has none of that name yet. */
  adopt(programId: number): void;
  /** Whether all maps of a program are the node's. */
  usesNodeMaps(programId: number): boolean;
  /** Content of a program's map of constants, which never changes; undefined if it has none. */
  constantsOf(programId: number): Buffer | undefined;
  /** All maps that a program needs; creates those that are missing. */
  mapsFor(type: FastPathProgram['type']): NodeMaps;
  /** Their fwmarks. */
  ports(): number[];
  /** A port that programs of the host may use. */
  setPort(mark: number): void;
  /** Whether a port is published, and that is still so. */
  isUnknown(mark: number): boolean;
  /** No program of the host had a socket with the port, and host-sent has seen all packets since. */
  setUnused(mark: number): void;
  deletePort(mark: number): void;
  /** Their underlay addresses. */
  peers(): IpAddress[];
  setPeer(address: IpAddress): void;
  deletePeer(address: IpAddress): void;
  /** Links' numbers. */
  tasks(): { address: IpAddress; index: number }[];
  setTask(address: IpAddress, index: number): void;
  /** Whether it existed. */
  deleteTask(address: IpAddress): boolean;
  close(): void;
}

/** The value of a member, where a map is a set. */
const SET_MEMBER = Buffer.of(1);
/** PORT_UNKNOWN and PORT_UNUSED of native/bpf/published.h. */
const PORT_UNKNOWN = 1;
const PORT_UNUSED = 2;

/** None are open yet. */
export function openFastPathMaps(): FastPathMaps {
  const openMaps = new Map<MapName, { handle: BpfHandle; id: number }>();
  /** A program's maps never change, and its number is not given to another until the kernel has used up all. */
  const mapsOf = new Map<number, { maps: { name: string; id: number }[]; constants: Buffer | undefined }>();

  function keepOpen(map: MapName, handle: BpfHandle): void {
    openMaps.set(map, { handle, id: bpfMapInfo(handle).id });
  }

  function mapsFor(type: FastPathProgram['type']): NodeMaps {
    const needed = mapsOfProgram(type);
    const missing = needed.find((name) => !openMaps.has(name));
    if (missing !== undefined) {
      const open = Object.fromEntries([...openMaps].map(([name, { handle }]) => [name, handle]));
      const created = createMaps(type, open);
      for (const name of needed) if (!openMaps.has(name)) keepOpen(name, created[name]!);
    }
    return Object.fromEntries(needed.map((name) => [name, openMaps.get(name)!.handle]));
  }

  function openOrCreate(map: MapName): BpfHandle {
    return openMaps.get(map)?.handle ?? mapsFor(objectOfMap(map))[map]!;
  }

  function readMaps(programId: number): { maps: { name: string; id: number }[]; constants: Buffer | undefined } {
    const known = mapsOf.get(programId);
    if (known !== undefined) return known;
    const program = bpfProgramById(programId);
    if (program === undefined) return { maps: [], constants: undefined };
    let constants: Buffer | undefined;
    const maps = bpfProgramInfo(program).mapIds.flatMap((id) => {
      const map = bpfMapById(id);
      if (map === undefined) return [];
      const { name, ...shape } = bpfMapInfo(map);
      if (isConstantsMap(name)) constants = lookUpBpfMap(map, Buffer.alloc(shape.keySize));
      if (isCurrentLayout(name, shape) && !openMaps.has(name)) keepOpen(name, map);
      else map.close();
      return isConstantsMap(name) ? [] : [{ name, id }];
    });
    program.close();
    const read = { maps, constants };
    mapsOf.set(programId, read);
    return read;
  }

  /** Every entry as `read` makes it: its key begins at byte `at` of all keys, and so does its value where it is as long. */
  function entries<T>(name: MapName, read: (keys: Buffer, at: number, values: Buffer) => T): T[] {
    const map = openMaps.get(name);
    if (map === undefined) return [];
    const { count, keys, values } = bpfMapEntries(map.handle);
    return Array.from({ length: count }, (_, entry) => read(keys, entry * mapShape(name).keySize, values));
  }

  function writePort(mark: number, state: number): void {
    updateBpfMap(openOrCreate('mesh_ports'), encodeUint32(mark), encodeUint32(state));
  }

  /** Whether it existed. */
  function remove(name: MapName, key: Buffer): boolean {
    const map = openMaps.get(name);
    return map !== undefined && deleteFromBpfMap(map.handle, key);
  }

  return {
    adopt: (programId) => void readMaps(programId),
    usesNodeMaps: (programId) =>
      readMaps(programId).maps.every(({ name, id }) => openMaps.get(name as MapName)?.id === id),
    constantsOf: (programId) => readMaps(programId).constants,
    mapsFor,
    ports: () => entries('mesh_ports', (keys, at) => keys.readUInt32LE(at)),
    setPort: (mark) => writePort(mark, PORT_UNKNOWN),
    isUnknown(mark) {
      const map = openMaps.get('mesh_ports');
      return map !== undefined && lookUpBpfMap(map.handle, encodeUint32(mark))?.readUInt32LE() === PORT_UNKNOWN;
    },
    setUnused: (mark) => writePort(mark, PORT_UNUSED),
    deletePort: (mark) => void remove('mesh_ports', encodeUint32(mark)),
    peers: () => entries('mesh_peers', decodeAddress),
    setPeer: (address) => updateBpfMap(openOrCreate('mesh_peers'), addressBytes(address), SET_MEMBER),
    deletePeer: (address) => void remove('mesh_peers', addressBytes(address)),
    tasks: () =>
      entries('mesh_tasks', (keys, at, values) => ({
        address: decodeAddress(keys, at),
        index: values.readUInt32LE(at),
      })),
    setTask: (address, index) => updateBpfMap(openOrCreate('mesh_tasks'), addressBytes(address), encodeUint32(index)),
    deleteTask: (address) => remove('mesh_tasks', addressBytes(address)),
    close() {
      for (const { handle } of openMaps.values()) handle.close();
      openMaps.clear();
    },
  };
}

/** A key that is an address. */
function decodeAddress(keys: Buffer, at: number): IpAddress {
  return formatAddress(keys.subarray(at, at + 4));
}

/** A map of another meshd, with another shape, would be read wrongly. */
function isCurrentLayout(name: string, shape: Omit<ReturnType<typeof bpfMapInfo>, 'name'>): name is MapName {
  if (!isMapName(name)) return false;
  const { type, keySize, valueSize, maxEntries } = mapShape(name);
  return (
    shape.type === type && shape.keySize === keySize && shape.valueSize === valueSize && shape.maxEntries === maxEntries
  );
}

function encodeUint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
