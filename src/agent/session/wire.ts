import type * as wire from '../../rpc/messages.ts';
import type { AgentReport, AssignmentMessage, WelcomeMessage } from './messages.ts';
import { truncateList } from './report-limits.ts';

/** A report as a generated message, within the limits of the manager. */
export function reportToWire(report: AgentReport): wire.AgentMessage {
  switch (report.kind) {
    case 'hello': {
      const value = { ...report.node, tasks: [...report.node.tasks] };
      return { message: { case: 'hello', value }, probeId: 0 };
    }
    case 'heartbeat':
      return { message: { case: 'heartbeat', value: {} }, probeId: 0 };
    case 'applied': {
      const value = { revision: report.revision, failures: truncateList(report.failures) };
      return { message: { case: 'ack', value }, probeId: 0 };
    }
    case 'tasks':
      return { message: { case: 'tasks', value: { tasks: [...report.reports] } }, probeId: 0 };
    case 'connections': {
      const { revision, endpoints } = report;
      return { message: { case: 'connections', value: { revision, endpoints } }, probeId: 0 };
    }
    case 'conditions': {
      const conditions = report.conditions.map(({ code, params }) => ({ code, params: { ...params } }));
      return { message: { case: 'conditions', value: { conditions } }, probeId: 0 };
    }
    case 'listeners':
      return { message: { case: 'listeners', value: { listeners: [...report.listeners] } }, probeId: 0 };
    case 'portConditions': {
      const conditions = [...report.conditions];
      return { message: { case: 'portConditions', value: { conditions } }, probeId: 0 };
    }
    case 'plan':
      return { message: { case: 'plan', value: report.result }, probeId: report.requestId };
    case 'answer': {
      const { questionId, chunk } = report;
      return { message: { case: 'answer', value: { questionId, ...chunk } }, probeId: 0 };
    }
  }
}

/** Undefined for a message of a newer manager. Throws MeshError `invalid` for one that is malformed. */
export function messageFromWire({ message }: wire.ManagerMessage): WelcomeMessage | AssignmentMessage | undefined {
  switch (message?.case) {
    case undefined:
      return undefined;
    case 'welcome': {
      const { clusterId, nodeId, heartbeatSeconds } = message.value;
      return { kind: 'welcome', clusterId, nodeId, heartbeatSeconds };
    }
    case 'snapshot':
      return { kind: 'snapshot', assignment: message.value };
    case 'delta':
      return { kind: 'delta', delta: message.value };
    case 'probe': {
      const { probeId, assignment } = message.value;
      return {
        kind: 'planRequest',
        requestId: probeId,
        assignment,
      };
    }
    case 'question': {
      const { questionId, kind, argument } = message.value;
      return { kind: 'question', questionId, question: kind, argument };
    }
  }
}
