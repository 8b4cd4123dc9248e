// What the daemons say, asked over their sockets: a meshctl costs a second of processor under emulation.
import { readFileSync } from 'node:fs';
import type { ChangeRecord } from '../../src/model/change-record.ts';
import type { KernelObject } from '../../src/model/kernel-state.ts';
import { connectControl, connectLocal } from '../../src/rpc/client.ts';

/** ms for one answer: the machine is emulated, and busy. */
const PATIENCE = 40_000;

/** The socket of a node's meshd, seen from outside its mount namespace. */
export function socketOf(node: string): string {
  const holder = readFileSync(`/run/testhost/nodes/${node}/pid`, 'utf8').trim();
  return `/proc/${holder}/root/run/meshd/meshd.sock`;
}

/** A fresh connection each time: the daemon may be another than the last time. */
async function askManager<T>(ask: (control: ReturnType<typeof connectControl>) => Promise<T>): Promise<T> {
  const control = connectControl(socketOf('node1'));
  try {
    return await ask(control);
  } finally {
    control.close();
  }
}

async function askLocal<T>(node: string, ask: (local: ReturnType<typeof connectLocal>) => Promise<T>): Promise<T> {
  const local = connectLocal(socketOf(node));
  try {
    return await ask(local);
  } finally {
    local.close();
  }
}

/** The steps from have to want on a node. */
export async function stepsOf(node: string): Promise<string[]> {
  const { steps, error } = await askLocal(node, (local) => local.diff({}, { timeout: PATIENCE }));
  if (error !== '') throw new Error(`${node}: ${error}`);
  return steps;
}

export const conditionsOf = async (node: string) => (await infoOf(node)).conditions;

/** Answers of all nodes to one question, by the names of the nodes. */
async function answersTo<T>(kind: string, argument: object | undefined): Promise<Map<string, T>> {
  const question = { nodes: [], kind, argument: argument === undefined ? '' : JSON.stringify(argument) };
  const { nodes } = await askManager((control) => control.ask(question, { timeout: PATIENCE }));
  return new Map(
    nodes.map(({ nodeName, body, error }) => {
      if (error !== '') throw new Error(`${nodeName}: ${error}`);
      return [nodeName, JSON.parse(Buffer.from(body).toString('utf8')) as T];
    }),
  );
}

/** What one node tells of its own: version, revision, counters, conditions. */
export const infoOf = (node: string) => askLocal(node, (local) => local.info({}));

/** Everything of ours in the kernels of all nodes. */
export async function objectsOfAll(): Promise<Map<string, KernelObject[]>> {
  const answers = await answersTo<{ objects: KernelObject[] }>('kernel', undefined);
  return new Map([...answers].map(([node, { objects }]) => [node, objects]));
}

/** What was changed in the kernels of all nodes within so many ms. */
export async function changesOfAll(age: number): Promise<Map<string, ChangeRecord[]>> {
  const answers = await answersTo<{ changes: ChangeRecord[] }>('history', { age, limit: 1_000 });
  return new Map([...answers].map(([node, { changes }]) => [node, changes]));
}

/** Tasks of a service that run and should. */
export async function runningCount(service: string): Promise<number> {
  const { tasks } = await askManager((control) => control.listTasks({ service, includeEnded: false }));
  return tasks.filter(({ status, desired }) => status?.state === 'running' && desired === 'running').length;
}
