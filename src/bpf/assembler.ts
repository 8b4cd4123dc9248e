import { MeshError } from '../base/errors.ts';
import type { MapName } from './maps.ts';

/*
 * eBPF instructions as data, and as the bytes the kernel expects: `struct bpf_insn` of include/uapi/linux/bpf.h, opcodes
 * there and in bpf_common.h. Little-endian machines only: on others the two register nibbles are swapped.
 */

/** r0 result, r1-r5 arguments (clobbered by calls), r6-r9 preserved, r10 the frame pointer (read only). */
export type Register = 'r0' | 'r1' | 'r2' | 'r3' | 'r4' | 'r5' | 'r6' | 'r7' | 'r8' | 'r9' | 'r10';
type Size = 'u8' | 'u16' | 'u32' | 'u64';
type Operand = Register | number;
/** Address of a memory access: register and offset. */
type MemoryOperand = readonly [base: Register, offset: number];

// bpf_common.h and bpf.h: instruction classes,
const BPF_LD = 0x00;
const BPF_LDX = 0x01;
const BPF_ST = 0x02;
const BPF_STX = 0x03;
const BPF_ALU = 0x04;
const BPF_JMP = 0x05;
const BPF_JMP32 = 0x06;
const BPF_ALU64 = 0x07;
// and the bits that are OR-ed to them.
const BPF_MEM = 0x60;
const BPF_IMM = 0x00;
const BPF_DW = 0x18;
const BPF_X = 0x08;
const BPF_TO_BE = 0x08;
const BPF_CALL = 0x80;
const BPF_EXIT = 0x90;
const BPF_JA = 0x00;
/** src_reg of a map load: the immediate is a descriptor, which the verifier turns into the map's address. */
const BPF_PSEUDO_MAP_FD = 1;

const SIZE = { u32: 0x00, u16: 0x08, u8: 0x10, u64: BPF_DW } as const satisfies Record<Size, number>;
const ALU = { add: 0x00, sub: 0x10, or: 0x40, and: 0x50, lsh: 0x60, rsh: 0x70, mov: 0xb0, end: 0xd0 } as const;
/** Comparisons are unsigned; `&` jumps when any bit is in both (BPF_JSET). */
const CONDITION = { '==': 0x10, '>': 0x20, '>=': 0x30, '&': 0x40, '!=': 0x50, '<': 0xa0, '<=': 0xb0 } as const;
type Condition = keyof typeof CONDITION;

/** Numbers of `enum bpf_func_id`, with the first kernel version of the newer ones. */
const HELPERS = {
  /** (map, key) → pointer to the value, or 0. */
  map_lookup_elem: 1,
  /** (map, key, value, flags) */
  map_update_elem: 2,
  /** (map, key) */
  map_delete_elem: 3,
  /** () → 32 random bits. */
  get_prandom_u32: 7,
  /** (skb, offset, bytes, length, flags): writes into the packet; invalidates packet pointers. */
  skb_store_bytes: 9,
  /** (skb, offset of the checksum, old, new, size of these): updates a transport header's checksum. */
  l4_csum_replace: 11,
  /** (ifindex, flags): transmits on that link. */
  redirect: 23,
  /** (skb, length): makes that many bytes directly readable; invalidates packet pointers. */
  skb_pull_data: 39,
  /** (skb, difference in bytes, BPF_ADJ_ROOM_*, flags): grows or shrinks the space after the Ethernet header; invalidates packet pointers. */
  skb_adjust_room: 50,
  /** (skb, struct bpf_fib_lookup *, length, flags) → BPF_FIB_LKUP_RET_*; 4.18. */
  fib_lookup: 69,
  /** () → jiffies since boot, all 64 bits; 5.6. */
  jiffies64: 118,
  /** (ifindex, params, length, flags): transmits on that link, the kernel resolves the neighbour; 5.10. */
  redirect_neigh: 152,
  /** (ifindex, flags): into the netns of that veth's peer, at tc ingress only; 5.10. */
  redirect_peer: 155,
} as const;
export type Helper = keyof typeof HELPERS;

interface Instruction {
  opcode: number;
  dst?: Register;
  src?: Register | typeof BPF_PSEUDO_MAP_FD;
  offset?: number;
  imm?: number;
  /** Target of a jump; `assemble` computes its offset. */
  to?: string;
  /** The map whose address is loaded; such a load is two instructions long. */
  map?: MapName;
}

/** One line of a program. */
export type Line = Instruction | { label: string };

/** The result of `assemble`: instructions whose map loads have no descriptor yet. */
export interface Program {
  /** At most 15 letters, digits and underscores (BPF_OBJ_NAME_LEN), as `bpftool prog` shows it. */
  name: string;
  code: Buffer;
  /** Map loads by the byte offset of their instruction. */
  loads: readonly { at: number; map: MapName }[];
}

/** sizeof(struct bpf_insn) */
const INSN = 8;

function alu(name: keyof typeof ALU, dst: Register, operand: Operand, wide = true): Line {
  const opcode = (wide ? BPF_ALU64 : BPF_ALU) | ALU[name];
  return typeof operand === 'number' ? { opcode, dst, imm: operand } : { opcode: opcode | BPF_X, dst, src: operand };
}

/** dst = operand; a number is sign-extended to 64 bits. */
export const mov = (dst: Register, operand: Operand): Line => alu('mov', dst, operand);
/** The lower half of dst = operand, the upper becomes 0. */
export const mov32 = (dst: Register, operand: Operand): Line => alu('mov', dst, operand, false);
export const add = (dst: Register, operand: Operand): Line => alu('add', dst, operand);
export const or = (dst: Register, operand: Operand): Line => alu('or', dst, operand);
export const sub = (dst: Register, operand: Operand): Line => alu('sub', dst, operand);
export const and = (dst: Register, operand: Operand): Line => alu('and', dst, operand);
export const shiftLeft = (dst: Register, bits: number): Line => alu('lsh', dst, bits);
/** Logical shift: fills with zeros from the left. */
export const shiftRight = (dst: Register, bits: number): Line => alu('rsh', dst, bits);

/** Converts from or to network order: swaps the bytes of the lower 16 bits and clears the rest. */
export const swap16 = (dst: Register): Line => ({ opcode: BPF_ALU | ALU.end | BPF_TO_BE, dst, imm: 16 });

/** dst = memory, zero-extended. */
export function load(size: Size, dst: Register, [base, offset]: MemoryOperand): Line {
  return { opcode: BPF_LDX | BPF_MEM | SIZE[size], dst, src: base, offset };
}

/** memory = register or number. */
export function store(size: Size, [base, offset]: MemoryOperand, operand: Operand): Line {
  return typeof operand === 'number'
    ? { opcode: BPF_ST | BPF_MEM | SIZE[size], dst: base, offset, imm: operand }
    : { opcode: BPF_STX | BPF_MEM | SIZE[size], dst: base, src: operand, offset };
}

/** dst = the map, for a helper that has a map argument. */
export function loadMap(dst: Register, map: MapName): Line {
  return { opcode: BPF_LD | BPF_IMM | BPF_DW, dst, src: BPF_PSEUDO_MAP_FD, map };
}

/** r1 = the map, r2 = the key at that stack offset: the first two arguments of every map helper. */
export function loadMapAndKey(map: MapName, key: number): Line[] {
  return [loadMap('r1', map), mov('r2', 'r10'), add('r2', key)];
}

/** r0 = pointer to the entry's value, or 0. Clobbers r1 to r5. */
export function lookUp(map: MapName, key: number): Line[] {
  return [...loadMapAndKey(map, key), call('map_lookup_elem')];
}

function jumpInstruction(kind: number, condition: Condition, left: Register, right: Operand, to: string): Line {
  const opcode = kind | CONDITION[condition];
  return typeof right === 'number'
    ? { opcode, dst: left, imm: right, to }
    : { opcode: opcode | BPF_X, dst: left, src: right, to };
}

/** Jumps to the label if the 64-bit comparison is true, as pointers need. */
export function jumpIf64(left: Register, condition: Condition, right: Operand, to: string): Line {
  return jumpInstruction(BPF_JMP, condition, left, right, to);
}

/** Jumps to the label if the comparison of the lower 32 bits is true, without sign extension (Linux 5.1). */
export function jumpIf(left: Register, condition: Condition, right: Operand, to: string): Line {
  return jumpInstruction(BPF_JMP32, condition, left, right, to);
}

export const jump = (to: string): Line => ({ opcode: BPF_JMP | BPF_JA, to });
/** r0 = helper(r1 … r5) */
export const call = (helper: Helper): Line => ({ opcode: BPF_JMP | BPF_CALL, imm: HELPERS[helper] });
/** Returns r0. */
export const exit = (): Line => ({ opcode: BPF_JMP | BPF_EXIT });
export const label = (name: string): Line => ({ label: name });

/** Bytes of the lines. A missing or duplicate label is a programming error and throws. */
export function assemble(name: string, lines: readonly Line[]): Program {
  const labels = resolveLabels(name, lines);
  const instructions = lines.filter((line): line is Instruction => !('label' in line));
  const code = Buffer.alloc(INSN * instructions.reduce((slots, { map }) => slots + instructionSlots(map), 0));
  const loads: { at: number; map: MapName }[] = [];
  let slot = 0;
  for (const { opcode, dst, src, offset = 0, imm = 0, to, map } of instructions) {
    const at = slot * INSN;
    slot += instructionSlots(map);
    code.writeUInt8(opcode, at);
    code.writeUInt8((registerNumber(src) << 4) | registerNumber(dst), at + 1);
    code.writeInt16LE(to === undefined ? offset : jumpOffset(name, labels, to, slot), at + 2);
    code.writeInt32LE(imm | 0, at + 4);
    if (map !== undefined) loads.push({ at, map });
  }
  return { name, code, loads };
}

/** The program with the descriptors of its maps, ready for BPF_PROG_LOAD. */
export function relocateMaps({ code, loads }: Program, descriptor: (map: MapName) => number): Buffer {
  const relocated = Buffer.from(code);
  for (const { at, map } of loads) relocated.writeInt32LE(descriptor(map), at + 4);
  return relocated;
}

/** A load of a 64-bit immediate has its upper half in a second instruction. */
function instructionSlots(map: MapName | undefined): number {
  return map === undefined ? 1 : 2;
}

function resolveLabels(name: string, lines: readonly Line[]): Map<string, number> {
  const labels = new Map<string, number>();
  let slot = 0;
  for (const line of lines) {
    if (!('label' in line)) slot += instructionSlots(line.map);
    else if (labels.has(line.label)) throw new MeshError('internal', `${name}: duplicate label ${line.label}`);
    else labels.set(line.label, slot);
  }
  return labels;
}

/** Jump offsets are relative to the next instruction. */
function jumpOffset(name: string, labels: ReadonlyMap<string, number>, to: string, next: number): number {
  const target = labels.get(to);
  if (target === undefined) throw new MeshError('internal', `${name}: missing label ${to}`);
  return target - next;
}

function registerNumber(register: Register | number | undefined): number {
  return typeof register === 'string' ? Number(register.slice(1)) : (register ?? 0);
}
