import type { Clock } from '../../base/clock.ts';
import { MeshError, messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Assignment } from '../../model/assignment.ts';
import type { Node, PortCondition } from '../../model/cluster.ts';
import { sameValue } from '../../model/equality.ts';
import { LIMIT } from '../../model/limits.ts';
import { id, integer, list, text } from '../../rpc/check.ts';
import { assignmentToWire } from '../../rpc/convert-assignment.ts';
import {
  conditionFromWire,
  listenerFromWire,
  portConditionFromWire,
  taskReportFromWire,
} from '../../rpc/convert-cluster.ts';
import type { AgentMessage, DispatchService, ManagerMessage, NodeAnswer, NodeDiff } from '../../rpc/gen/mesh.ts';
import type { Handlers } from '../../rpc/implement.ts';
import type { Duplex } from '../../rpc/stream.ts';
import type { Store } from '../../store/store.ts';
import { withEndpointJoins } from '../leading/endpoint-join.ts';
import { type AgentHello, admitNode, helloFromWire } from '../leading/membership.ts';
import type { TaskReports } from '../leading/task-reports.ts';
import { put, type Writer } from '../leading/writer.ts';
import type { AssignmentChanges } from './assignment-changes.ts';
import type { ClusterIndex } from './cluster-index.ts';
import type { NodeReports } from './node-reports.ts';
import { createPendingRequests, type RequestTarget } from './pending-requests.ts';
import type { PortTable } from './port-table.ts';
import { createSessionFeed, type SessionFeed } from './session-feed.ts';

/*
 * The agents' side of the manager.
 *
 * INVARIANTS
 * - A node has at most one session; a newer one replaces the older.
 * - A node is `down` once nothing was heard of it for SILENCE ms, or AGENT_GRACE ms after its session was closed.
 * - What an agent says is only believed about its own node.
 */

const HEARTBEAT_SECONDS = 2;
/** Three heartbeats: how long a node with an open session may be silent. */
const HEARTBEAT_TIMEOUT = 3 * HEARTBEAT_SECONDS * 1_000;
/**
 * How long, ms, an agent may be away whose session was closed: its node's kernel is alive and said so, its ports and
 * tasks go on without it while it is restarted or upgraded. The same after a start of the manager itself.
 */
const RECONNECT_TIMEOUT = 30_000;
/** A timer this late, ms, means that this process stood still: what agents sent meanwhile is not read yet. */
const STALL_THRESHOLD = 1_000;
const HELLO_TIMEOUT = 5_000;
/** What a node reports of its own listeners and ports at a time. */
const MAX_REPORTED = 4_096;
/** Streams that are open at a time, said hello or not. */
const MAX_SESSIONS = 4_096;

type Stream = Duplex<AgentMessage, ManagerMessage>;
type Incoming = NonNullable<AgentMessage['message']>;

interface Session {
  nodeId: string;
  stream: Stream;
  feed: SessionFeed;
}

export interface Dispatcher {
  handlers: Handlers<typeof DispatchService>;
  onAssignmentChanges(effects: AssignmentChanges): void;
  connected(nodeId: string): boolean;
  /** What the node's kernel would go through to become this; `error` says why it cannot be told. */
  dryRun(node: Node, wish: Assignment): Promise<NodeDiff>;
  /** Asks a node's agent; `error` says why there is no answer. */
  request(node: Node, kind: string, argument: string): Promise<NodeAnswer>;
  /** Ends a node's session, as when it was removed. */
  disconnect(nodeId: string, reason: string): void;
  start(): void;
  stop(): void;
}

export interface DispatcherOptions {
  store: Store;
  index: ClusterIndex;
  table: PortTable;
  reports: NodeReports;
  taskReports: TaskReports;
  writer: Writer;
  clock: Clock;
  log: Log;
  clusterId: string;
  /** A node said where its published ports are not what was declared. */
  onPortConditions(nodeId: string, conditions: readonly PortCondition[]): void;
  /** Something draining tasks may wait for was said. */
  onDrainProgress(): void;
}

export function createDispatcher(options: DispatcherOptions): Dispatcher {
  const { store, index, table, reports, taskReports, writer, clock, log, clusterId } = options;
  const sessions = new Map<string, Session>();
  const streams = new Set<Stream>();
  /** Monotonic ms at which a node that stays silent counts as down. */
  const deadlines = new Map<string, number>();
  const timers = new Map<string, () => void>();
  const pendingRequests = createPendingRequests(clock);
  let stopped = false;

  function extendDeadline(nodeId: string, timeout = HEARTBEAT_TIMEOUT): void {
    deadlines.set(nodeId, clock.monotonic() + timeout);
    if (!timers.has(nodeId)) startTimer(nodeId, timeout);
  }

  /** One timer a node, which is only set again when it fires: heartbeats cost no timer each. */
  function startTimer(nodeId: string, delay: number): void {
    const at = clock.monotonic() + delay;
    timers.set(
      nodeId,
      clock.after(Math.max(1, delay), () => {
        timers.delete(nodeId);
        if (clock.monotonic() - at > STALL_THRESHOLD) return extendDeadline(nodeId);
        const left = (deadlines.get(nodeId) ?? 0) - clock.monotonic();
        if (left > 0) startTimer(nodeId, left);
        else void markNodeDown(nodeId);
      }),
    );
  }

  async function markNodeDown(nodeId: string): Promise<void> {
    if (stopped) return;
    closeSession(nodeId, new MeshError('unavailable', `no heartbeat for ${HEARTBEAT_TIMEOUT / 1_000} s`));
    try {
      await writer.run(async () => {
        const node = index.node(nodeId);
        if (node === undefined || node.state === 'down' || (deadlines.get(nodeId) ?? 0) > clock.monotonic()) return;
        const now = clock.now();
        log.warn({ node: node.name }, 'node is down: nothing heard of it');
        await store.transact([put<Node>('nodes', { ...node, state: 'down', stateSince: now, updatedAt: now })]);
      });
    } catch (thrown) {
      log.error({ err: thrown, node: nodeId }, `a node's state could not be stored: ${messageOf(thrown)}`);
      if (!stopped) startTimer(nodeId, 1_000);
    }
  }

  async function openSession(hello: AgentHello, stream: Stream): Promise<Session> {
    const node = await writer.run(async () => {
      const admitted = admitNode(hello, index, (nodeId) => sessions.has(nodeId), clock.now());
      const before = index.node(admitted.id);
      const isUnchanged = before !== undefined && sameValue({ ...before, updatedAt: 0 }, { ...admitted, updatedAt: 0 });
      // A node never counts as ready with what its tasks were before it was away.
      const statuses = taskReports.writes(admitted.id, hello.tasks);
      const writes = isUnchanged ? statuses : [put<Node>('nodes', admitted), ...statuses];
      if (writes.length > 0) await store.transact(withEndpointJoins(writes, index, clock.now()));
      return admitted;
    });
    closeSession(node.id, new MeshError('conflict', `another session of node ${node.name} has replaced this one`));
    const session: Session = { nodeId: node.id, stream, feed: { onAssignmentChanges: () => {}, stop: () => {} } };
    sessions.set(node.id, session);
    extendDeadline(node.id);
    await stream.send({
      message: { $case: 'welcome', value: { nodeId: node.id, heartbeatSeconds: HEARTBEAT_SECONDS, clusterId } },
    });
    // Not before Welcome: the snapshot is the second message.
    if (sessions.get(node.id) === session) session.feed = createSessionFeed(node.id, stream, index, table, clock);
    log.info({ node: node.name, peer: stream.peer, version: hello.version }, 'agent connected');
    return session;
  }

  function closeSession(nodeId: string, error: MeshError): void {
    const session = sessions.get(nodeId);
    if (session === undefined) return;
    sessions.delete(nodeId);
    session.feed.stop();
    session.stream.end(error);
  }

  function onMessage(nodeId: string, message: Incoming, probeId: number): void {
    switch (message.$case) {
      case 'hello':
        throw new MeshError('invalid', 'a second hello in one session');
      case 'ack': {
        const revision = integer(message.value.revision, 'ack.revision', 0, Number.MAX_SAFE_INTEGER);
        const failures = list(message.value.failures.slice(0, 100), 'ack.failures', 100, (value, where) =>
          text(value, where, 4 * LIMIT.value),
        );
        reports.onAck(nodeId, revision, failures);
        options.onDrainProgress();
        return;
      }
      case 'tasks':
        taskReports.add(nodeId, list(message.value.tasks, 'tasks', 100_000, taskReportFromWire));
        return;
      case 'connections': {
        const active = new Map<string, number>();
        for (const one of list(message.value.endpoints, 'endpoints', 100_000, (endpoint) => endpoint)) {
          active.set(id(one.taskId, 'endpoints.task_id'), one.active);
        }
        reports.onConnections(nodeId, message.value.revision, active);
        options.onDrainProgress();
        return;
      }
      case 'conditions':
        reports.onConditions(
          nodeId,
          list(message.value.conditions.slice(0, 100), 'conditions', 100, conditionFromWire),
        );
        return;
      case 'listeners':
        reports.onListeners(nodeId, list(message.value.listeners, 'listeners', MAX_REPORTED, listenerFromWire));
        return;
      case 'portConditions': {
        const conditions = list(message.value.conditions, 'port_conditions', MAX_REPORTED, portConditionFromWire);
        options.onPortConditions(nodeId, conditions);
        return;
      }
      case 'answer':
        pendingRequests.onResponse(nodeId, message.value);
        return;
      case 'plan':
        pendingRequests.onDryRunResult(nodeId, probeId, message.value);
        return;
      case 'heartbeat':
        return;
    }
  }

  function requestTarget({ id: nodeId, name }: Node): RequestTarget {
    const stream = sessions.get(nodeId)?.stream;
    return { id: nodeId, name, send: stream && ((message) => void stream.send({ message })) };
  }

  async function serveStream(stream: Stream): Promise<void> {
    const cancelTimeout = clock.after(HELLO_TIMEOUT, () =>
      stream.end(new MeshError('invalid', 'no hello: is this an agent of meshd?')),
    );
    let session: Session | undefined;
    try {
      for await (const { message, probeId } of stream.received) {
        if (stopped) throw new MeshError('unavailable', 'the manager stops');
        if (session === undefined) {
          if (message?.$case !== 'hello') throw new MeshError('invalid', 'a session begins with hello');
          cancelTimeout();
          session = await openSession(helloFromWire(message.value), stream);
          continue;
        }
        if (sessions.get(session.nodeId) !== session) return; // replaced or removed
        extendDeadline(session.nodeId);
        if (message !== undefined) onMessage(session.nodeId, message, probeId);
      }
    } finally {
      cancelTimeout();
      session?.feed.stop();
      if (session !== undefined && sessions.get(session.nodeId) === session) {
        sessions.delete(session.nodeId);
        if (!stopped) {
          extendDeadline(session.nodeId, RECONNECT_TIMEOUT);
          log.warn({ node: index.node(session.nodeId)?.name }, 'agent disconnected');
        }
      }
    }
  }

  return {
    handlers: {
      async session(stream) {
        if (streams.size >= MAX_SESSIONS)
          throw new MeshError('exhausted', `more than ${MAX_SESSIONS} sessions are open`, { retry: true });
        streams.add(stream);
        try {
          await serveStream(stream);
        } finally {
          streams.delete(stream);
        }
      },
    },
    onAssignmentChanges(changes) {
      for (const session of sessions.values()) session.feed.onAssignmentChanges(changes);
    },
    connected: (nodeId) => sessions.has(nodeId),
    dryRun: (node, desired) => pendingRequests.dryRun(requestTarget(node), assignmentToWire(desired)),
    request: (node, kind, argument) => pendingRequests.request(requestTarget(node), kind, argument),
    disconnect(nodeId, reason) {
      closeSession(nodeId, new MeshError('conflict', reason));
      reports.remove(nodeId);
      deadlines.delete(nodeId);
      timers.get(nodeId)?.();
      timers.delete(nodeId);
    },
    start() {
      for (const node of index.nodes()) if (node.state === 'ready') extendDeadline(node.id, RECONNECT_TIMEOUT);
    },
    stop() {
      stopped = true;
      for (const cancel of timers.values()) cancel();
      for (const session of sessions.values()) session.feed.stop();
      for (const stream of streams) stream.end(new MeshError('unavailable', 'the manager stops'));
    },
  };
}
