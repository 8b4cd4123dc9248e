import { describe, expect, it } from 'vitest';
import { compare } from '../../test/goldens/compare.ts';
import { goldenOf, readGoldens } from '../../test/goldens/read.ts';
import type { NetlinkMessage } from './message.ts';
import {
  decodeFilter,
  decodeQdisc,
  deleteBpfFilter,
  deleteClsact,
  dumpFilters,
  dumpQdiscs,
  EGRESS,
  INGRESS,
  newBpfFilter,
  newClsact,
} from './traffic-control.ts';

const TC0 = 3;
/** tc derives the name from the pinned file's name. */
const FILTER = { index: TC0, parent: INGRESS, preference: 4096, handle: 1, fd: 4, name: 'mesh-golden:[*fsobj]' };
const ADD = 'filter add dev tc0 ingress protocol all pref 4096 handle 1 bpf direct-action object-pinned';

describe('traffic control', () => {
  compare('traffic-control', [
    ['tc qdisc add dev tc0 clsact', newClsact(TC0)],
    [`tc ${ADD} /sys/fs/bpf/mesh-golden`, newBpfFilter(FILTER)],
    [`tc ${ADD.replace('add', 'replace')} /sys/fs/bpf/mesh-golden`, newBpfFilter(FILTER, 'ensure')],
    ['tc qdisc show', dumpQdiscs()],
    ['tc filter show dev tc0 ingress', dumpFilters(TC0)],
    ['tc filter show dev tc0 ingress pref 4096', dumpFilters(TC0, INGRESS, 4096)],
    ['tc filter show dev tc0 egress', dumpFilters(TC0, EGRESS)],
    ['tc filter del dev tc0 ingress protocol all pref 4096 handle 1 bpf', deleteBpfFilter(FILTER)],
    ['tc qdisc del dev tc0 clsact', deleteClsact(TC0)],
  ]);
});

describe('replies of traffic control', () => {
  const answers = (command: string, type: number): NetlinkMessage[] =>
    goldenOf(readGoldens('traffic-control'), command).received.filter((message) => message.type === type);
  const read = <T>(result: { ok: true; value: T } | { ok: false; error: Error }): T => {
    if (!result.ok) throw result.error;
    return result.value;
  };

  it('qdiscs', () => {
    const found = answers('tc qdisc show', 36).map((message) => read(decodeQdisc(message)));
    expect(found.filter(({ kind }) => kind === 'clsact')).toEqual([{ index: TC0, kind: 'clsact', parent: 0xfffffff1 }]);
  });

  it('filters: the classifier, then its filter', () => {
    const place = { index: TC0, parent: INGRESS, preference: 4096, kind: 'bpf', chain: 0 };
    const found = answers('tc filter show dev tc0 ingress', 44).map((message) => read(decodeFilter(message)));
    expect(found).toEqual([
      { ...place, handle: 0, bpf: undefined },
      {
        ...place,
        handle: 1,
        bpf: {
          name: 'mesh-golden:[*fsobj]',
          id: expect.any(Number),
          tag: expect.stringMatching(/^[0-9a-f]{16}$/),
          directAction: true,
        },
      },
    ]);
    expect(answers('tc filter show dev tc0 egress', 44)).toEqual([]);
  });

  it('are rejected when truncated or of another type', () => {
    const [message] = answers('tc filter show dev tc0 ingress', 44);
    expect(decodeQdisc(message!).ok).toBe(false);
    expect(decodeFilter({ ...message!, payload: message!.payload.subarray(0, 10) }).ok).toBe(false);
    expect(decodeFilter({ ...message!, payload: message!.payload.subarray(0, 25) }).ok).toBe(false);
  });
});
