import type { Clock } from '../../base/clock.ts';

/** A timer this late, ms, means that this process itself stood still: messages of agents may be waiting to be read. */
const STALL_THRESHOLD = 1_000;

/** Watches for nodes from which nothing was received for too long. */
export interface NodeLiveness {
  /** Something was received, or a node is expected: it is silent when nothing follows within `timeout` ms. */
  extend(nodeId: string, timeout: number): void;
  isSilent(nodeId: string): boolean;
  /** Calls `onSilent` again after `delay` ms, if the node is still silent then. */
  retry(nodeId: string, delay: number): void;
  forget(nodeId: string): void;
  stop(): void;
}

/** `onSilent` is called once per silence; `timeout`: how long nothing was received, ms. */
export function createNodeLiveness(clock: Clock, onSilent: (nodeId: string, timeout: number) => void): NodeLiveness {
  /** By node: monotonic ms at which it counts as silent. */
  const deadlines = new Map<string, { at: number; timeout: number }>();
  const timers = new Map<string, () => void>();

  /** One timer per node, set again only when it fires: a heartbeat costs no timer. */
  function startTimer(nodeId: string, delay: number): void {
    const at = clock.monotonic() + delay;
    timers.set(
      nodeId,
      clock.after(Math.max(1, delay), () => onTimer(nodeId, at)),
    );
  }

  function onTimer(nodeId: string, expectedAt: number): void {
    timers.delete(nodeId);
    const deadline = deadlines.get(nodeId);
    if (deadline === undefined) return;
    const now = clock.monotonic();
    if (now - expectedAt > STALL_THRESHOLD) liveness.extend(nodeId, deadline.timeout);
    else if (deadline.at > now) startTimer(nodeId, deadline.at - now);
    else onSilent(nodeId, deadline.timeout);
  }

  const liveness: NodeLiveness = {
    extend(nodeId, timeout) {
      deadlines.set(nodeId, { at: clock.monotonic() + timeout, timeout });
      if (!timers.has(nodeId)) startTimer(nodeId, timeout);
    },
    isSilent: (nodeId) => (deadlines.get(nodeId)?.at ?? 0) <= clock.monotonic(),
    retry(nodeId, delay) {
      if (!timers.has(nodeId)) startTimer(nodeId, delay);
    },
    forget(nodeId) {
      deadlines.delete(nodeId);
      timers.get(nodeId)?.();
      timers.delete(nodeId);
    },
    stop() {
      for (const cancel of timers.values()) cancel();
      timers.clear();
    },
  };
  return liveness;
}
