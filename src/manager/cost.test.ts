import { expect, test } from 'vitest';
import { orchestrate } from '../decide/orchestrate.ts';
import { admitSpecs } from './leading/admission.ts';
import { bootstrap } from './leading/bootstrap.ts';
import { createStagedState } from './leading/staged-state.ts';
import { memoryStore, spec, tcp } from './manager.test-data.ts';
import { assignmentChanges } from './serving/assignment-changes.ts';
import { createClusterIndex } from './serving/cluster-index.ts';
import { createNodeReports } from './serving/node-reports.ts';
import { createPortTable } from './serving/port-table.ts';

const SERVICES = 20_000;

/** Prints what one change costs the manager beside very many services; it asserts only that the work was done. */
test('one change among 20000 services', async () => {
  const store = memoryStore();
  await bootstrap(store, {}, 1);
  const index = createClusterIndex(store);
  const table = createPortTable(index);
  const reports = createNodeReports(index, () => false);
  const times: Record<string, number[]> = {};
  const timed = <T>(what: string, work: () => T): T => {
    const before = performance.now();
    const result = work();
    times[what] = [...(times[what] ?? []), performance.now() - before];
    return result;
  };
  let changedPorts = 0;
  store.watch((changes) => {
    const name = changes.length === 1 ? 'index and effects of the commit' : 'index and effects of all at once';
    timed(name, () => {
      index.apply(changes);
      changedPorts += assignmentChanges(changes, index, table).ports.size;
    });
  });
  const specs = Array.from({ length: SERVICES }, (_, n) => spec(`s${n}`, { ports: [tcp(10_000 + n)] }));
  await store.transact(timed('admit all at once', () => admitSpecs(specs, index, 1)).writes);
  for (let round = 0; round < 50; round += 1) {
    const changed = spec(`s${round}`, { replicas: 2 + round, ports: [tcp(10_000 + round), tcp(40_000 + round)] });
    const { writes, admitted } = timed('admit one', () => admitSpecs([changed], index, 2));
    expect(admitted[0]?.action).toBe('updated');
    await store.transact(writes);
    const id = index.serviceByName(changed.name)!.id;
    const decided = timed('decide one', () => {
      const draft = createStagedState(index, reports, 3);
      return orchestrate(index.service(id), draft.tasksOfService(id), draft.context);
    });
    expect(decided.put).toHaveLength(2 + round);
  }
  expect(table.offers(new Set())).toHaveLength(SERVICES + 50);
  expect(changedPorts).toBe(SERVICES + 50);
  for (const [what, all] of Object.entries(times)) {
    const sorted = all.sort((a, b) => a - b);
    console.log(
      `${what}: median ${sorted[sorted.length >> 1]!.toFixed(3)} ms, worst ${sorted.at(-1)!.toFixed(3)} ms (${all.length} times)`,
    );
  }
});
