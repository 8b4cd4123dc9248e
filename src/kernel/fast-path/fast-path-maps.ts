import {
  type BpfHandle,
  bpfMapById,
  bpfMapEntries,
  bpfMapInfo,
  bpfProgramById,
  bpfProgramInfo,
  createBpfMap,
  deleteFromBpfMap,
  updateBpfMap,
} from '../../../native/index.ts';
import { MeshError } from '../../base/errors.ts';
import { addressBytes, addressOf, MAPS, type MapName } from '../../bpf/maps.ts';
import type { IpAddress } from '../../model/address.ts';

/** The maps of this node's programs, kept open: they outlive a filter that another program deletes. */
export interface FastPathMaps {
  /** Uses the maps of an attached program as the node's, where it has none of that name yet. */
  adopt(programId: number): void;
  /** Whether all maps of a program are the node's. */
  usesNodeMaps(programId: number): boolean;
  /** Creates the map if needed. */
  mapFd(map: MapName): number;
  /** Their fwmarks. */
  ports(): number[];
  setPort(mark: number): void;
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

/** None are open yet. */
export function openFastPathMaps(): FastPathMaps {
  const openMaps = new Map<MapName, { handle: BpfHandle; id: number }>();
  /** A program's maps never change, and its number is not given to another until the kernel has used up all. */
  const mapsOf = new Map<number, { name: string; id: number }[]>();

  function keepOpen(map: MapName, handle: BpfHandle): void {
    openMaps.set(map, { handle, id: bpfMapInfo(handle).id });
  }

  function openOrCreate(map: MapName): BpfHandle {
    const cached = openMaps.get(map);
    if (cached !== undefined) return cached.handle;
    const created = createMap(map);
    keepOpen(map, created);
    return created;
  }

  function readMaps(programId: number): { name: string; id: number }[] {
    const known = mapsOf.get(programId);
    if (known !== undefined) return known;
    const program = bpfProgramById(programId);
    if (program === undefined) return [];
    const maps = bpfProgramInfo(program).mapIds.flatMap((id) => {
      const map = bpfMapById(id);
      if (map === undefined) return [];
      const { name, ...shape } = bpfMapInfo(map);
      if (isCurrentLayout(name, shape) && !openMaps.has(name)) keepOpen(name, map);
      else map.close();
      return [{ name, id }];
    });
    program.close();
    mapsOf.set(programId, maps);
    return maps;
  }

  /** Every entry as `read` makes it: its key begins at byte `at` of all keys, and so does its value where it is as long. */
  function entries<T>(name: MapName, read: (keys: Buffer, at: number, values: Buffer) => T): T[] {
    const map = openMaps.get(name);
    if (map === undefined) return [];
    const { count, keys, values } = bpfMapEntries(map.handle);
    return Array.from({ length: count }, (_, entry) => read(keys, entry * MAPS[name].keySize, values));
  }

  /** Whether it existed. */
  function remove(name: MapName, key: Buffer): boolean {
    const map = openMaps.get(name);
    return map !== undefined && deleteFromBpfMap(map.handle, key);
  }

  return {
    adopt: (programId) => void readMaps(programId),
    usesNodeMaps: (programId) => readMaps(programId).every(({ name, id }) => openMaps.get(name as MapName)?.id === id),
    mapFd: (map) => openOrCreate(map).fd,
    ports: () => entries('mesh_ports', (keys, at) => keys.readUInt32LE(at)),
    setPort: (mark) => updateBpfMap(openOrCreate('mesh_ports'), encodeUint32(mark), SET_MEMBER),
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

function createMap(name: MapName): BpfHandle {
  try {
    return createBpfMap({ name, ...MAPS[name] });
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'EPERM') throw thrown;
    // Locked memory is counted up to 5.10 (RLIMIT_MEMLOCK, kernel commit 97306be45fbe).
    const what = `the kernel lets meshd make no BPF map ${name}: run it as root, and before Linux 5.11 with LimitMEMLOCK=infinity`;
    throw new MeshError('kernel', what, { cause: thrown });
  }
}

/** A key that is an address. */
function decodeAddress(keys: Buffer, at: number): IpAddress {
  return addressOf(keys.subarray(at, at + 4));
}

/** A map of another meshd, with another shape, would be read wrongly. */
function isCurrentLayout(name: string, shape: Omit<ReturnType<typeof bpfMapInfo>, 'name'>): name is MapName {
  if (!Object.hasOwn(MAPS, name)) return false;
  const { type, keySize, valueSize, maxEntries } = MAPS[name as MapName];
  return (
    shape.type === type && shape.keySize === keySize && shape.valueSize === valueSize && shape.maxEntries === maxEntries
  );
}

function encodeUint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
