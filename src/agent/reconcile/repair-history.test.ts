import { afterEach, beforeEach, expect, it } from 'vitest';
import { systemClock } from '../../base/clock.ts';
import { silentLog } from '../../base/log.ts';
import type { ChangeRecord } from '../../model/change-record.ts';
import { LB_NETNS, networkNetns, portMark } from '../../model/linux-names.ts';
import {
  assignment,
  eventually,
  extraPort,
  type FakeManager,
  fakeManager,
  startNode,
  type TestNode,
} from '../agent.test-data.ts';
import { openHistory } from '../session/history.ts';

let manager: FakeManager;
let node: TestNode;

beforeEach(async () => {
  manager = await fakeManager();
  manager.assignment = assignment();
  node = await startNode([manager.address]);
  await eventually(() => manager.of('ack').some(({ revision }) => revision === 1), 'ack');
});
afterEach(async () => {
  await node.close();
  await manager.stop();
});

/** As another meshd on the same state directory would report it. */
const kept = async () => (await openHistory(node.stateDir, systemClock, silentLog()).query({})).changes;

async function recorded(is: (change: ChangeRecord) => boolean): Promise<ChangeRecord> {
  for (let look = 0; look < 500; look++) {
    const found = (await kept()).find(is);
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`not in the history: ${JSON.stringify(await kept())}`);
}

it('records the start, changes of the assignment with their service, and no entry without operations', async () => {
  const start = await recorded(({ why }) => why === 'start');
  expect(start).toMatchObject({ revision: 1, failures: [] });
  expect(start.count).toBeGreaterThan(50);
  manager.delta({ ports: [extraPort(9000)] });
  const change = await recorded(({ steps }) => steps.join().includes('ipset add mesh-pub-tcp 9000'));
  expect(change).toMatchObject({ why: 'assignment', revision: 2, wrong: [], services: [extraPort(9000).serviceName] });
  await node.agent.stop();
  const before = await kept();
  await node.restart();
  await eventually(() => manager.of('ack').length > 2, 'ack of the restarted agent');
  expect(await kept()).toEqual(before);
});

it('records what was wrong and which process caused it, where the kernel reports that', async () => {
  const key = `fdb ${networkNetns('ingress')} vxlan0 02:6d:65:73:00:02`;
  node.kernel.changeExternally({ verb: 'delete', object: node.kernel.state().get(key)! }, [
    { pid: 4711, name: 'bridge' },
  ]);
  const repair = await recorded(({ why }) => why === 'repair');
  expect(repair).toMatchObject({ wrong: [`${key}: missing`], by: ['bridge (pid 4711)'], failures: [] });
  expect(repair.steps).toEqual([expect.stringMatching(/^bridge .*fdb add 02:6d:65:73:00:02 dev vxlan0 dst /)]);
});

it('records a repair that only the audit found, and operations that the kernel rejects', async () => {
  const key = `virtual-service ${LB_NETNS} inet ${portMark('tcp', 8080)}`;
  node.kernel.changeExternally({ verb: 'delete', object: node.kernel.state().get(key)! });
  const repair = await recorded(({ why, wrong }) => why === 'repair' && wrong.includes(`${key}: missing`));
  expect(repair.by).toEqual([]);
  node.kernel.setFaults({ seed: 7, refuse: 1 });
  manager.delta({ ports: [extraPort(9000)] });
  const refused = await recorded(({ failures }) => failures.length > 0);
  expect(refused.failures[0]).toContain('EBUSY');
  node.kernel.setFaults(undefined);
  await recorded(({ why, failures }) => why === 'retry' && failures.length === 0);
});
