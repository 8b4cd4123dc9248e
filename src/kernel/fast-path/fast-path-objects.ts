import { createHash } from 'node:crypto';
import {
  type BpfConstants,
  type BpfHandle,
  type BpfMapShape,
  bpfObjectConstants,
  bpfObjectMaps,
  loadBpfObject,
  readBpfObject,
} from '../../../native/index.ts';
import { MeshError } from '../../base/errors.ts';
import type { IpAddress } from '../../model/address.ts';
import type { FastPathProgram } from '../../model/kinds/fast-path.ts';
import { parseAddress } from '../../netlink/ip.ts';

/*
 * The object files of native/bpf, one per type of program. A program's identity is the content of its map of constants: the
 * parameters of the program and a hash of its object file. The kernel never changes that map and keeps it as long as the
 * program, so a restarted meshd recognizes the programs of its own version.
 */

/** Maps that the programs of one node share, by the program whose object defines them. */
const MAP_OBJECTS = {
  mesh_ports: 'host-in',
  '.data.sent_from': 'host-in',
  mesh_peers: 'host-in',
  mesh_fragments: 'host-in',
  mesh_sent: 'host-in',
  mesh_tasks: 'router-in',
  mesh_flows: 'router-in',
  mesh_edges: 'router-in',
} as const satisfies Record<string, ProgramType>;

export type MapName = keyof typeof MAP_OBJECTS;
export type NodeMaps = Readonly<Partial<Record<MapName, BpfHandle>>>;
type ProgramType = FastPathProgram['type'];

export const MAP_NAMES = Object.keys(MAP_OBJECTS) as MapName[];

/** BPF_OBJ_NAME_LEN limits the names of maps to 15 characters; libbpf cuts the prefix. */
const CONSTANTS_SUFFIX = '.rodata';

interface ObjectFile {
  elf: Buffer;
  /** Hash of the file, 32 characters. */
  build: Buffer;
  maps: BpfMapShape[];
}

const objectFiles = new Map<ProgramType, ObjectFile>();

function objectFile(type: ProgramType): ObjectFile {
  const cached = objectFiles.get(type);
  if (cached !== undefined) return cached;
  const elf = readBpfObject(type);
  const build = Buffer.from(createHash('sha256').update(elf).digest('hex').slice(0, 32));
  const read = { elf, build, maps: bpfObjectMaps(elf) };
  objectFiles.set(type, read);
  return read;
}

/** The map as its object defines it. */
export function mapShape(name: MapName): BpfMapShape {
  return objectFile(MAP_OBJECTS[name]).maps.find((shape) => shape.name === name)!;
}

export function isMapName(name: string): name is MapName {
  return Object.hasOwn(MAP_OBJECTS, name);
}

/** Whether a map of a program holds its constants. */
export function isConstantsMap(name: string): boolean {
  return name.endsWith(CONSTANTS_SUFFIX);
}

/** Values of the variables in the program's source file; `index` returns a link's ifindex, or throws. */
function constantsOf(program: FastPathProgram, index: (link: string) => number): BpfConstants {
  const bpf_metadata_build = objectFile(program.type).build;
  switch (program.type) {
    case 'host-in':
      return {
        bpf_metadata_build,
        own_address: addressBytes(program.address),
        node_number: program.number,
        lb_link: index(program.lb),
        router_link: index(program.router),
        router_vni: program.vni,
      };
    case 'host-sent':
      return { bpf_metadata_build, own_address: addressBytes(program.address), lb_link: index(program.lb) };
    case 'host-out':
      return { bpf_metadata_build, own_address: addressBytes(program.address) };
    case 'router-in':
      return { bpf_metadata_build };
    case 'task-out':
      return {
        bpf_metadata_build,
        vxlan_link: index(program.vxlan),
        lb_link: index(program.lb),
        node_number: program.number,
      };
  }
}

/** Content of the map of constants of a loaded program. */
export function programConstants(program: FastPathProgram, index: (link: string) => number): Buffer {
  return bpfObjectConstants(objectFile(program.type).elf, constantsOf(program, index));
}

/** Loads a program; all maps that its object defines must be given. */
export function loadProgram(program: FastPathProgram, index: (link: string) => number, maps: NodeMaps): BpfHandle {
  return load(program.type, maps, constantsOf(program, index)).program!;
}

/** All maps that an object defines: those given, and new ones. */
export function createMaps(type: ProgramType, maps: NodeMaps): NodeMaps {
  return load(type, maps).maps;
}

/** The object that defines a map. */
export function objectOfMap(name: MapName): ProgramType {
  return MAP_OBJECTS[name];
}

/** The names of maps that a program needs. */
export function mapsOfProgram(type: ProgramType): MapName[] {
  return objectFile(type).maps.map(({ name }) => name as MapName);
}

function load(type: ProgramType, maps: NodeMaps, constants?: BpfConstants) {
  const name = type.replace('-', '_');
  try {
    return loadBpfObject(objectFile(type).elf, { name, maps, ...(constants === undefined ? {} : { constants }) });
  } catch (thrown) {
    const { code, log } = thrown as NodeJS.ErrnoException & { log?: string };
    if (code === 'EPERM') {
      // Locked memory is counted up to 5.10 (RLIMIT_MEMLOCK, kernel commit 97306be45fbe).
      const what = `the kernel does not permit BPF maps and programs (${type}): run meshd as root, and before Linux 5.11 with LimitMEMLOCK=infinity`;
      throw new MeshError('kernel', what, { cause: thrown });
    }
    if (log === undefined) throw thrown;
    const words = log.trim().split('\n').slice(-6).join('\n');
    const verifierText = words === '' ? '' : `; the log ends with:\n${words}`;
    throw new MeshError('kernel', `the kernel rejects the program ${type}: ${code}${verifierText}`, { cause: thrown });
  }
}

/** Four bytes in network order. */
export function addressBytes(address: IpAddress): Buffer {
  return Buffer.from(parseAddress(address));
}
