import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { isImpaired, keepsTasksAway } from '../../decide/impairment.ts';
import type { Node } from '../../model/cluster.ts';
import { sameValue } from '../../model/equality.ts';
import type { Store } from '../../store/store.ts';
import type { ClusterView, NodeObservations } from './cluster-view.ts';
import { withEndpointJoins } from './endpoint-join.ts';
import { put, type Writer } from './writer.ts';

/** Milliseconds before impairments that could not be stored are stored again. */
const RETRY_DELAY = 1_000;

/** Stores which conditions of nodes have an effect, so that decisions and assignments follow from the store alone. */
export interface Impairments {
  /** The node reported its conditions. */
  update(nodeId: string): void;
  stop(): void;
}

export function createImpairments(options: {
  store: Store;
  view: ClusterView;
  observations: NodeObservations;
  writer: Writer;
  clock: Clock;
  log: Log;
}): Impairments {
  const { store, view, observations, writer, clock, log } = options;
  const retries = new Map<string, () => void>();
  let stopped = false;

  async function commit(nodeId: string): Promise<void> {
    const node = view.node(nodeId);
    if (node === undefined || stopped) return;
    const reported = observations.impairments(nodeId);
    const { impairments: before = [], ...rest } = node;
    if (sameValue(before, reported)) return;
    const now = clock.now();
    const changed: Node = { ...rest, ...(reported.length === 0 ? {} : { impairments: reported }), updatedAt: now };
    await store.transact(withEndpointJoins([put<Node>('nodes', changed)], view, now));
    logChange(node.name, isImpaired({ impairments: before }), reported);
  }

  function logChange(node: string, wasImpaired: boolean, reported: string[]): void {
    const away = reported.filter(keepsTasksAway);
    const avoided = reported.filter((code) => !away.includes(code));
    if (away.length > 0) log.warn({ node }, `${node} gets no new tasks: ${away.join(', ')}`);
    else if (avoided.length > 0)
      log.warn({ node }, `${node} gets new tasks only if no other node is suitable: ${avoided.join(', ')}`);
    else log.info({ node }, wasImpaired ? `${node} accepts tasks again` : `${node} is no longer avoided for new tasks`);
  }

  function update(nodeId: string): void {
    retries.get(nodeId)?.();
    retries.delete(nodeId);
    writer
      .run(() => commit(nodeId))
      .catch((thrown) => {
        log.error(
          { err: thrown, node: nodeId },
          `cannot store the conditions of a node; retrying: ${messageOf(thrown)}`,
        );
        if (!stopped)
          retries.set(
            nodeId,
            clock.after(RETRY_DELAY, () => update(nodeId)),
          );
      });
  }

  return {
    update,
    stop() {
      stopped = true;
      for (const cancel of retries.values()) cancel();
    },
  };
}
