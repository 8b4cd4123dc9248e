import { MeshError } from '../base/errors.ts';
import { zeroCounters } from '../kernel/kernel.ts';
import { renderCondition } from '../model/condition.ts';
import type { Local } from '../rpc/gen/mesh_pb.js';
import type { Handlers } from '../rpc/service.ts';
import type { Agent } from './agent-options.ts';

/** Information about this daemon, for any role. */
export interface DaemonInfo {
  name: string;
  roles: ('manager' | 'agent')[];
  version: string;
  /** Wall clock, ms. */
  startedAt: number;
}

const NO_COUNTERS = { ...zeroCounters(), repairs: 0 };

/** The Local service of this machine; `agent` is undefined on a node that only manages. */
export function localHandlers(daemon: DaemonInfo, agent: Agent | undefined): Handlers<typeof Local> {
  return {
    async info() {
      const info = agent?.info();
      return {
        nodeName: daemon.name,
        nodeId: info?.nodeId ?? '',
        roles: daemon.roles,
        version: daemon.version,
        startedAt: daemon.startedAt,
        assignmentRevision: info?.revision ?? 0,
        connected: info?.manager !== undefined,
        manager: info?.manager ?? '',
        pid: process.pid,
        kernelObjects: info?.kernelObjects ?? 0,
        counters: info?.counters ?? NO_COUNTERS,
        conditions: (info?.conditions ?? []).map(renderCondition),
      };
    },
    async diff() {
      if (agent === undefined)
        throw new MeshError('unsupported', 'this meshd has no agent role; ask a node that has it');
      return agent.diff();
    },
  };
}
