import { describe, expect, it } from 'vitest';
import {
  add,
  and,
  assemble,
  call,
  exit,
  jump,
  jumpIf,
  jumpIf64,
  type Line,
  label,
  load,
  loadMap,
  mov,
  mov32,
  or,
  relocateMaps,
  shiftLeft,
  shiftRight,
  store,
  sub,
  swap16,
} from './assembler.ts';
import { hostIn } from './host-in.ts';
import { hostOut } from './host-out.ts';
import { routerIn } from './router-in.ts';
import { programTags } from './tag.ts';
import { taskOut } from './task-out.ts';

/** In the format of llvm-objdump: eight bytes per instruction. */
function bytes(...lines: Line[]): string {
  const hex = assemble('test', lines).code.toString('hex');
  return hex.replace(/(..)(?=.)/g, '$1 ');
}

describe('the assembler', () => {
  // From `llvm-mc -triple bpfel -mcpu=v3 -filetype=obj` and `llvm-objdump -d`.
  it.each<[string, Line, string]>([
    ['r6 = r1', mov('r6', 'r1'), 'bf 16 00 00 00 00 00 00'],
    ['r2 = 0', mov('r2', 0), 'b7 02 00 00 00 00 00 00'],
    ['w3 = 1936551170', mov32('r3', 1936551170), 'b4 03 00 00 02 6d 6d 73'],
    ['r2 += -16', add('r2', -16), '07 02 00 00 f0 ff ff ff'],
    ['r0 -= r3', sub('r0', 'r3'), '1f 30 00 00 00 00 00 00'],
    ['r1 &= 3', and('r1', 3), '57 01 00 00 03 00 00 00'],
    ['r0 >>= 30', shiftRight('r0', 30), '77 00 00 00 1e 00 00 00'],
    ['r3 <<= 16', shiftLeft('r3', 16), '67 03 00 00 10 00 00 00'],
    ['r3 |= 29541', or('r3', 29541), '47 03 00 00 65 73 00 00'],
    ['r3 = be16 r3', swap16('r3'), 'dc 03 00 00 10 00 00 00'],
    ['r2 = *(u32 *)(r6 + 16)', load('u32', 'r2', ['r6', 16]), '61 62 10 00 00 00 00 00'],
    ['r4 = *(u8 *)(r7 + 23)', load('u8', 'r4', ['r7', 23]), '71 74 17 00 00 00 00 00'],
    ['r4 = *(u16 *)(r7 + 36)', load('u16', 'r4', ['r7', 36]), '69 74 24 00 00 00 00 00'],
    ['*(u16 *)(r7 + 10) = r2', store('u16', ['r7', 10], 'r2'), '6b 27 0a 00 00 00 00 00'],
    ['call 155', call('redirect_peer'), '85 00 00 00 9b 00 00 00'],
    ['exit', exit(), '95 00 00 00 00 00 00 00'],
  ])('%s', (_, line, expected) => expect(bytes(line)).toBe(expected));

  // Not available in the assembler's syntax; encoded as in include/uapi/linux/bpf.h (BPF_ST | BPF_MEM | size).
  it('stores numbers', () => {
    expect(bytes(store('u8', ['r10', -64], 2))).toBe('72 0a c0 ff 02 00 00 00');
    expect(bytes(store('u16', ['r7', 10], 0x100))).toBe('6a 07 0a 00 00 01 00 00');
    expect(bytes(store('u32', ['r10', -4], 77))).toBe('62 0a fc ff 4d 00 00 00');
    expect(bytes(store('u64', ['r10', -8], 0))).toBe('7a 0a f8 ff 00 00 00 00');
  });

  it('jumps forwards and backwards, by number and by register', () => {
    expect(bytes(jumpIf('r2', '!=', 8, 'end'), exit(), label('end'))).toBe(
      '56 02 01 00 08 00 00 00 95 00 00 00 00 00 00 00',
    );
    expect(bytes(label('again'), add('r2', -16), jumpIf64('r2', '>', 'r8', 'again'))).toBe(
      '07 02 00 00 f0 ff ff ff 2d 82 fe ff 00 00 00 00',
    );
    expect(bytes(jumpIf('r1', '==', 'r2', 'end'), exit(), label('end'))).toBe(
      '1e 21 01 00 00 00 00 00 95 00 00 00 00 00 00 00',
    );
    expect(bytes(jump('end'), label('end'))).toBe('05 00 00 00 00 00 00 00');
    // BPF_JMP32 | BPF_JSET | BPF_K
    expect(bytes(jumpIf('r2', '&', 7, 'end'), label('end'))).toBe('46 02 00 00 07 00 00 00');
  });

  it('keeps numbers with the highest bit', () => {
    expect(bytes(jumpIf('r2', '==', 0xc0a80001, 'end'), label('end'))).toBe('16 02 00 00 01 00 a8 c0');
  });

  it('leaves map descriptors unset and counts a map load as two instructions in jumps', () => {
    const program = assemble('test', [jump('end'), loadMap('r1', 'mesh_flows'), label('end'), exit()]);
    expect(program.loads).toEqual([{ at: 8, map: 'mesh_flows' }]);
    expect(program.code.readInt16LE(2)).toBe(2);
    expect(
      relocateMaps(program, () => 77)
        .subarray(8, 24)
        .toString('hex'),
    ).toBe(`181100004d000000${'00'.repeat(8)}`);
    expect(program.code.readInt32LE(12)).toBe(0);
  });

  it('rejects missing and duplicate labels', () => {
    expect(() => assemble('test', [jump('nowhere')])).toThrow('test: missing label nowhere');
    expect(() => assemble('test', [label('a'), label('a')])).toThrow('test: duplicate label a');
  });
});

describe('tags', () => {
  it('depend on every parameter', () => {
    const address = '192.0.2.1';
    const into = { address, lb: 5, router: 6, vni: 4096, number: 1 };
    const programs = [
      hostIn(into),
      hostIn({ ...into, lb: 7 }),
      hostIn({ ...into, router: 7 }),
      hostIn({ ...into, vni: 4097 }),
      hostIn({ ...into, number: 300 }),
      hostIn({ ...into, address: '192.0.2.2' }),
      hostOut({ address }),
      hostOut({ address: '192.0.2.2' }),
      routerIn(),
      taskOut({ vxlan: 2, lb: 3, number: 1 }),
      taskOut({ vxlan: 3, lb: 2, number: 1 }),
      taskOut({ vxlan: 2, lb: 3, number: 300 }),
    ];
    const all = programs.flatMap(programTags);
    expect(new Set(all).size).toBe(2 * programs.length);
    for (const tag of all) expect(tag).toMatch(/^[0-9a-f]{16}$/);
    expect(programTags(routerIn())).toEqual(programTags(routerIn()));
    for (const { name } of programs) expect(name.length).toBeLessThanOrEqual(15);
  });
});
