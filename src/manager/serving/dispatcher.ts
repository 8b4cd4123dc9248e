import type { Clock } from '../../base/clock.ts';
import { MeshError, messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Assignment } from '../../model/assignment.ts';
import type { Node, PortCondition } from '../../model/cluster.ts';
import type { Condition } from '../../model/condition.ts';
import type { SessionHandler } from '../../rpc/grpc-server.ts';
import type { AgentMessage, Hello, ManagerMessage, NodeAnswer, NodeDiff } from '../../rpc/messages.ts';
import type { Duplex } from '../../rpc/session.ts';
import type { Leader } from '../leading/leader.ts';
import { handleAgentMessage } from './agent-message.ts';
import type { AssignmentChanges } from './assignment-changes.ts';
import type { ClusterIndex } from './cluster-index.ts';
import { createNodeLiveness } from './node-liveness.ts';
import type { NodeReports } from './node-reports.ts';
import { createPendingRequests, type RequestTarget } from './pending-requests.ts';
import type { PortTable } from './port-table.ts';
import { createSessionFeed, type SessionFeed } from './session-feed.ts';

/*
 * Sessions of agents.
 *
 * INVARIANTS
 * - A node has at most one session; a newer one replaces the older.
 * - A node is `down` once nothing was received from it for HEARTBEAT_TIMEOUT ms, or RECONNECT_TIMEOUT ms after its session
 *   was closed.
 * - What an agent reports counts for its own node only.
 */

const HEARTBEAT_SECONDS = 2;
/** Three heartbeats: how long a node with an open session may be silent. */
const HEARTBEAT_TIMEOUT = 3 * HEARTBEAT_SECONDS * 1_000;
/**
 * Milliseconds in which an agent may reconnect after its session was closed: the kernel that closed it works, and ports
 * and tasks do without an agent while it is restarted or upgraded. The same after a start of the manager.
 */
const RECONNECT_TIMEOUT = 30_000;
const HELLO_TIMEOUT = 5_000;
/** Milliseconds before the state of a node that could not be stored is stored again. */
const RETRY_DELAY = 1_000;
/** Open streams, before their hello too. */
const MAX_SESSIONS = 4_096;

type Stream = Duplex<AgentMessage, ManagerMessage>;

interface Session {
  nodeId: string;
  stream: Stream;
  /** Undefined until Welcome is sent: the snapshot is the second message. */
  feed: SessionFeed | undefined;
}

export interface Dispatcher {
  serveSession: SessionHandler;
  onAssignmentChanges(changes: AssignmentChanges): void;
  /** The operations that would turn the node's kernel into this; `error`: why they are not known. */
  dryRun(node: Node, desired: Assignment): Promise<NodeDiff>;
  /** Asks a node's agent; `error`: why there is no answer. */
  request(node: Node, kind: string, argument: string): Promise<NodeAnswer>;
  /** Ends a node's session and forgets its reports, as when it was removed. */
  disconnect(nodeId: string, reason: string): void;
  start(): void;
  stop(): void;
}

export interface DispatcherOptions {
  index: ClusterIndex;
  table: PortTable;
  reports: NodeReports;
  leader: Leader;
  clock: Clock;
  log: Log;
  clusterId: string;
  /** A session of a node begins. */
  onSession(nodeId: string): void;
  onAck(nodeId: string, revision: number, failures: readonly string[]): void;
  onConditions(nodeId: string, conditions: readonly Condition[]): void;
  onPortConditions(nodeId: string, conditions: readonly PortCondition[]): void;
}

export function createDispatcher(options: DispatcherOptions): Dispatcher {
  const { index, table, reports, leader, clock, log, clusterId, onSession, onAck, onConditions, onPortConditions } =
    options;
  const sessions = new Map<string, Session>();
  const streams = new Set<Stream>();
  const pendingRequests = createPendingRequests(clock);
  const messageHandlers = { leader, reports, pendingRequests, onAck, onConditions, onPortConditions };
  const liveness = createNodeLiveness(clock, (nodeId, timeout) => void markNodeDown(nodeId, timeout));
  let stopped = false;

  async function markNodeDown(nodeId: string, timeout: number): Promise<void> {
    if (stopped) return;
    const reason = `no heartbeat for ${timeout / 1_000} s`;
    closeSession(nodeId, new MeshError('unavailable', reason));
    try {
      await leader.markNodeDown(nodeId, () => liveness.isSilent(nodeId), reason);
    } catch (thrown) {
      log.error({ err: thrown, node: nodeId }, `cannot store that a node is down; retrying: ${messageOf(thrown)}`);
      if (!stopped) liveness.retry(nodeId, RETRY_DELAY);
    }
  }

  async function openSession(hello: Hello, stream: Stream): Promise<Session> {
    const node = await leader.registerNode(hello, (nodeId) => sessions.has(nodeId));
    closeSession(node.id, new MeshError('conflict', `another session of node ${node.name} has replaced this one`));
    const session: Session = { nodeId: node.id, stream, feed: undefined };
    sessions.set(node.id, session);
    onSession(node.id);
    liveness.extend(node.id, HEARTBEAT_TIMEOUT);
    await stream.send({
      message: { case: 'welcome', value: { nodeId: node.id, heartbeatSeconds: HEARTBEAT_SECONDS, clusterId } },
    });
    if (isCurrent(session)) session.feed = createSessionFeed(node.id, stream, index, table, clock);
    log.info({ node: node.name, peer: stream.peer, version: hello.version }, `agent of ${node.name} connected`);
    return session;
  }

  /** False once the session was replaced, or its node removed. */
  function isCurrent(session: Session): boolean {
    return sessions.get(session.nodeId) === session;
  }

  function closeSession(nodeId: string, error: MeshError): void {
    const session = sessions.get(nodeId);
    if (session === undefined) return;
    sessions.delete(nodeId);
    session.feed?.stop();
    session.stream.end(error);
  }

  function onStreamEnd(session: Session): void {
    session.feed?.stop();
    if (!isCurrent(session)) return;
    sessions.delete(session.nodeId);
    if (stopped) return;
    liveness.extend(session.nodeId, RECONNECT_TIMEOUT);
    const name = index.node(session.nodeId)?.name;
    log.warn({ node: name }, `agent of ${name} disconnected`);
  }

  async function serveStream(stream: Stream): Promise<void> {
    const cancelTimeout = clock.after(HELLO_TIMEOUT, () =>
      stream.end(new MeshError('invalid', `no hello within ${HELLO_TIMEOUT / 1_000} s: is this an agent of meshd?`)),
    );
    let session: Session | undefined;
    try {
      for await (const received of stream.received) {
        if (stopped) throw stoppingError();
        if (session === undefined) {
          if (received.message?.case !== 'hello') throw new MeshError('invalid', 'a session begins with hello');
          cancelTimeout();
          session = await openSession(received.message.value, stream);
          continue;
        }
        if (!isCurrent(session)) return;
        liveness.extend(session.nodeId, HEARTBEAT_TIMEOUT);
        handleAgentMessage(session.nodeId, received, messageHandlers);
      }
    } finally {
      cancelTimeout();
      if (session !== undefined) onStreamEnd(session);
    }
  }

  function requestTarget({ id, name }: Node): RequestTarget {
    const stream = sessions.get(id)?.stream;
    return { id, name, send: stream && ((message) => void stream.send({ message })) };
  }

  return {
    async serveSession(stream) {
      if (streams.size >= MAX_SESSIONS)
        throw new MeshError('exhausted', `more than ${MAX_SESSIONS} sessions are open`, { retry: true });
      streams.add(stream);
      try {
        await serveStream(stream);
      } finally {
        streams.delete(stream);
      }
    },
    onAssignmentChanges(changes) {
      for (const session of sessions.values()) session.feed?.onAssignmentChanges(changes);
    },
    dryRun: (node, desired) => pendingRequests.dryRun(requestTarget(node), desired),
    request: (node, kind, argument) => pendingRequests.request(requestTarget(node), kind, argument),
    disconnect(nodeId, reason) {
      closeSession(nodeId, new MeshError('conflict', reason));
      reports.remove(nodeId);
      liveness.forget(nodeId);
    },
    start() {
      for (const node of index.nodes()) if (node.state === 'ready') liveness.extend(node.id, RECONNECT_TIMEOUT);
    },
    stop() {
      stopped = true;
      liveness.stop();
      for (const session of sessions.values()) session.feed?.stop();
      for (const stream of streams) stream.end(stoppingError());
    },
  };
}

function stoppingError(): MeshError {
  return new MeshError('unavailable', 'the manager is stopping');
}
