import { describe, expect, test } from 'vitest';
import type { Change } from '../../store/store.ts';
import { fakeClock } from '../manager.test-data.ts';
import type { AffectedNodes } from './port-table.ts';
import { createPublications } from './publications.ts';

function started(ready: string[]) {
  const clock = fakeClock();
  const reports: string[][] = [];
  const publications = createPublications(clock, (ids) => reports.push([...ids].sort()));
  const publish = (revision: number, published: Record<string, AffectedNodes>, changes: Change[] = []) =>
    publications.onCommit(changes, revision, new Map(Object.entries(published)), () => ready);
  const pending = (serviceId: string) => [...publications.pendingNodes(serviceId)].sort();
  return { clock, reports, publications, publish, pending };
}

const nodeDown = (id: string): Change => ({
  revision: 9,
  collection: 'nodes',
  id,
  before: undefined,
  after: { id, state: 'down' } as unknown as NonNullable<Change['after']>,
});

describe('a service', () => {
  test('is pending on every ready node until each has acknowledged the revision that published it', () => {
    const { publications, publish, pending } = started(['n1', 'n2', 'n3']);
    expect(pending('web')).toEqual([]);
    publish(5, { web: 'all' });
    expect(pending('web')).toEqual(['n1', 'n2', 'n3']);
    publications.onAck('n1', 4);
    publications.onAck('n2', 5);
    publications.onAck('n3', 7);
    expect(pending('web')).toEqual(['n1']);
    publications.onAck('n1', 5);
    expect(pending('web')).toEqual([]);
  });

  test('that is published again is pending for the later revision', () => {
    const { publications, publish, pending } = started(['n1', 'n2']);
    publish(5, { web: 'all' });
    publications.onAck('n1', 5);
    publish(6, { web: 'all' });
    publications.onAck('n1', 5);
    publications.onAck('n2', 6);
    expect(pending('web')).toEqual(['n1']);
  });

  test('with host ports is pending on the nodes that they changed on', () => {
    const { publications, publish, pending } = started(['n1', 'n2', 'n3']);
    publish(5, { web: 'all' });
    publish(6, { web: new Set(['n2', 'n9']), other: new Set(['n3']) });
    for (const node of ['n1', 'n2', 'n3']) publications.onAck(node, 5);
    expect([pending('web'), pending('other')]).toEqual([['n2'], ['n3']]);
    publications.onAck('n2', 6);
    publications.onAck('n3', 6);
    expect([pending('web'), pending('other')]).toEqual([[], []]);
  });

  test('does not wait for a node that is down', () => {
    const { publications, publish, pending } = started(['n1', 'n2']);
    publish(5, { web: 'all' });
    publications.onAck('n1', 5);
    publish(6, {}, [nodeDown('n2')]);
    expect(pending('web')).toEqual([]);
  });
});

describe('changes are reported', () => {
  test('together, a moment after they began', () => {
    const { clock, reports, publications, publish } = started(['n1', 'n2']);
    publish(5, { web: 'all', api: 'all' });
    publications.onAck('n1', 5);
    publications.onAck('n2', 5);
    expect(reports).toEqual([]);
    clock.advance(100);
    expect(reports).toEqual([['api', 'web']]);
  });

  test('of very many services, once every node has them', () => {
    const { clock, reports, publications, publish } = started(['n1', 'n2']);
    publish(5, Object.fromEntries(Array.from({ length: 200 }, (_, index) => [`s${index}`, 'all' as const])));
    clock.advance(100);
    publications.onAck('n1', 5);
    clock.advance(100);
    expect(reports).toHaveLength(1);
    publications.onAck('n2', 5);
    clock.advance(100);
    expect(reports.map(({ length }) => length)).toEqual([200, 200]);
  });
});
