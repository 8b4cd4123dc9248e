// Queries of the daemons over their sockets: meshctl costs a second of processor time under emulation.
import { readFileSync } from 'node:fs';
import type { ChangeRecord } from '../../src/model/change-record.ts';
import type { KernelObject } from '../../src/model/kinds/registry.ts';
import { connectControl, connectLocal } from '../../src/rpc/client.ts';

/** Timeout of one response in ms: the machine is emulated, and busy. */
const REQUEST_TIMEOUT = 40_000;

/** The socket of a node's meshd, as seen from outside its mount namespace. */
export function socketPath(node: string): string {
  const holder = readFileSync(`/run/testhost/nodes/${node}/pid`, 'utf8').trim();
  return `/proc/${holder}/root/run/meshd/meshd.sock`;
}

/** A new connection each time: the daemon may have been restarted. */
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

/** The operations that would repair a node's drift. */
export async function pendingSteps(node: string): Promise<string[]> {
  const { steps, error } = await callLocal(node, (local) => local.diff({}, { timeout: REQUEST_TIMEOUT }));
  if (error !== '') throw new Error(`${node}: ${error}`);
  return steps;
}

export const nodeConditions = async (node: string) => (await nodeInfo(node)).conditions;

/** Responses of all nodes to one query, by node name. */
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

/** Status of a node: version, revision, counters, conditions. */
export const nodeInfo = (node: string) => callLocal(node, (local) => local.info({}));

/** All kernel objects of meshd on all nodes. */
export async function allKernelObjects(): Promise<Map<string, KernelObject[]>> {
  const answers = await queryNodes<{ objects: KernelObject[] }>('kernel', undefined);
  return new Map([...answers].map(([node, { objects }]) => [node, objects]));
}

/** Kernel changes on all nodes in the last so many ms. */
export async function recentChanges(age: number): Promise<Map<string, ChangeRecord[]>> {
  const answers = await queryNodes<{ changes: ChangeRecord[] }>('history', { age, limit: 1_000 });
  return new Map([...answers].map(([node, { changes }]) => [node, changes]));
}

/** Tasks of a service that run and are desired to run. */
export async function runningTaskCount(service: string): Promise<number> {
  const { tasks } = await callManager((control) => control.listTasks({ service, includeEnded: false }));
  return tasks.filter(({ status, desired }) => status?.state === 'running' && desired === 'running').length;
}
