import fc from 'fast-check';
import { expect, it } from 'vitest';
import { allocatePorts, portsInUse } from './allocate-ports.ts';

const usual = { from: 32_768, to: 60_999 };
const web = [{ protocol: 'tcp' as const, port: 80 }];
const pick = (id: string, taken: string[] = [], local = usual) => allocatePorts(id, web, [], new Set(taken), local);

it('the same task gets the same number, outside what outgoing connections use', () => {
  expect(pick('a')).toEqual(pick('a'));
  expect(pick('a')).not.toEqual(pick('b'));
  for (let task = 0; task < 200; task++) {
    const [port] = pick(`task${task}`)!;
    expect(port!.published).toBeGreaterThan(60_999);
    expect(port!.published).toBeLessThan(65_536);
  }
});

it('uses the local range when no other port is free, and fails when all are in use', () => {
  const all = Array.from({ length: 65_536 }, (_, port) => `${port}/tcp`);
  expect(pick('a', [], { from: 1_024, to: 65_535 })![0]!.published).toBeGreaterThanOrEqual(49_152);
  const free = new Set(all);
  free.delete('50000/tcp');
  expect(pick('a', [...free])).toEqual([{ protocol: 'tcp', target: 80, published: 50_000 }]);
  expect(pick('a', all)).toBeUndefined();
});

it('never picks a port in use, and treats protocols separately', () => {
  const [first] = pick('a')!;
  const taken = portsInUse(
    [{ protocol: 'tcp', port: first!.published }],
    [{ protocol: 'tcp', published: first!.published + 1 } as never],
    [{ protocol: 'tcp', target: 1, published: first!.published + 2 }],
  );
  expect(allocatePorts('a', web, [], taken, usual)![0]!.published).toBe(first!.published + 3);
  const other = portsInUse([{ protocol: 'udp', port: first!.published }], [], []);
  expect(allocatePorts('a', web, [], other, usual)).toEqual([first]);
});

it('keeps existing ports, releases those no longer requested, and picks no port twice', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.integer({ min: 1, max: 50 }), { maxLength: 20 }),
      fc.uniqueArray(fc.integer({ min: 1, max: 50 }), { maxLength: 20 }),
      (before, after) => {
        const asked = (ports: number[]) => ports.map((port) => ({ protocol: 'udp' as const, port }));
        const had = allocatePorts('a', asked(before), [], new Set(), usual)!;
        const taken = portsInUse([], [], had);
        const next = allocatePorts('a', asked(after), had, taken, usual)!;
        expect(next.map(({ target }) => target)).toEqual(after);
        expect(new Set(next.map(({ published }) => published)).size).toBe(after.length);
        for (const port of had) if (after.includes(port.target)) expect(next).toContainEqual(port);
      },
    ),
  );
});
