// What the daemons say, asked over their sockets: a meshctl costs a second of processor under emulation.
import { readFileSync } from 'node:fs';
import type { ChangeRecord } from '../../src/model/change-record.ts';
import type { KernelObject } from '../../src/model/kernel-state.ts';
import { connectControl, connectLocal } from '../../src/rpc/client.ts';

/** ms for one answer: the machine is emulated, and busy. */
const REQUEST_TIMEOUT = 40_000;

/** The socket of a node's meshd, seen from outside its mount namespace. */
export function socketPath(node: string): string {
  const holder = readFileSync(`/run/testhost/nodes/${node}/pid`, 'utf8').trim();
  return `/proc/${holder}/root/run/meshd/meshd.sock`;
}

/** A fresh connection each time: the daemon may be another than the last time. */
async function callManager<T>(call: (control: ReturnType<typeof connectControl>) => Promise<T>): Promise<T> {
  const control = connectControl(socketPath('node1'));
  try {
    return await call(control);
  } finally {
    control.close();
  }
}

async function callLocal<T>(node: string, call: (local: ReturnType<typeof connectLocal>) => Promise<T>): Promise<T> {
  const local = connectLocal(socketPath(node));
  try {
    return await call(local);
  } finally {
    local.close();
  }
}

/** The steps from have to want on a node. */
export async function pendingSteps(node: string): Promise<string[]> {
  const { steps, error } = await callLocal(node, (local) => local.diff({}, { timeout: REQUEST_TIMEOUT }));
  if (error !== '') throw new Error(`${node}: ${error}`);
  return steps;
}

export const nodeConditions = async (node: string) => (await nodeInfo(node)).conditions;

/** Answers of all nodes to one question, by the names of the nodes. */
async function queryNodes<T>(kind: string, argument: object | undefined): Promise<Map<string, T>> {
  const question = { nodes: [], kind, argument: argument === undefined ? '' : JSON.stringify(argument) };
  const { nodes } = await callManager((control) => control.ask(question, { timeout: REQUEST_TIMEOUT }));
  return new Map(
    nodes.map(({ nodeName, body, error }) => {
      if (error !== '') throw new Error(`${nodeName}: ${error}`);
      return [nodeName, JSON.parse(Buffer.from(body).toString('utf8')) as T];
    }),
  );
}

/** What one node tells of its own: version, revision, counters, conditions. */
export const nodeInfo = (node: string) => callLocal(node, (local) => local.info({}));

/** Everything of ours in the kernels of all nodes. */
export async function allKernelObjects(): Promise<Map<string, KernelObject[]>> {
  const answers = await queryNodes<{ objects: KernelObject[] }>('kernel', undefined);
  return new Map([...answers].map(([node, { objects }]) => [node, objects]));
}

/** What was changed in the kernels of all nodes within so many ms. */
export async function recentChanges(age: number): Promise<Map<string, ChangeRecord[]>> {
  const answers = await queryNodes<{ changes: ChangeRecord[] }>('history', { age, limit: 1_000 });
  return new Map([...answers].map(([node, { changes }]) => [node, changes]));
}

/** Tasks of a service that run and should. */
export async function runningTaskCount(service: string): Promise<number> {
  const { tasks } = await callManager((control) => control.listTasks({ service, includeEnded: false }));
  return tasks.filter(({ status, desired }) => status?.state === 'running' && desired === 'running').length;
}
