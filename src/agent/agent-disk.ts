import { mkdirSync, readFileSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { MeshError, messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Assignment } from '../model/assignment.ts';
import type { Identity } from './session/cluster-identity.ts';

/**
 * What an agent keeps on disk. The identity is written before it is used. The assignment may lag behind what the kernel
 * holds and what was acknowledged: it is used only while no manager is reachable, and a crash loses at most its last half
 * second. That a task was ever started must not be lost: it is recorded in the task's own directory, which is removed
 * only after an assignment without the task is on disk.
 */
export interface AgentDisk {
  identity(): Identity | undefined;
  saveIdentity(identity: Identity): Promise<void>;
  assignment(): Assignment | undefined;
  /** Reads the assignment soon and writes it; of several calls the last one counts. */
  saveAssignment(read: () => Assignment): void;
  /** Resolves when everything given so far is on disk; rejects when it cannot be written. */
  flush(): Promise<void>;
}

/** For how long changes of the assignment are collected before they are written, ms. */
const WRITE_DELAY = 500;

/** Undefined on a node that never joined. Throws MeshError `corrupt` when the file exists and cannot be read. */
export function readIdentity(stateDir: string): Identity | undefined {
  return readJson<Identity>(join(agentDirectory(stateDir), IDENTITY_FILE));
}

const IDENTITY_FILE = 'identity.json';
const agentDirectory = (stateDir: string) => join(stateDir, 'agent');

/** Throws MeshError `corrupt` when a file exists and cannot be read. */
export function openAgentDisk(stateDir: string, clock: Clock, log: Log): AgentDisk {
  const directory = agentDirectory(stateDir);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new MeshError('permission', `cannot use ${directory}: ${messageOf(cause)}; specify another --state-dir`, {
      cause,
    });
  }
  let identity = readIdentity(stateDir);
  let pending: (() => Assignment) | undefined;
  let writing: Promise<void> = Promise.resolve();
  let cancel: (() => void) | undefined;

  const writeNow = (): Promise<void> => {
    cancel?.();
    cancel = undefined;
    const read = pending;
    pending = undefined;
    if (read !== undefined) {
      const text = JSON.stringify(read());
      const next = writing
        .catch(() => {})
        .then(() => writeAtomically(join(directory, 'assignment.json'), text))
        .catch((thrown) => {
          pending ??= read; // retried with the next change or flush
          throw thrown;
        });
      writing = next;
    }
    return writing;
  };

  return {
    identity: () => identity,
    async saveIdentity(next) {
      await writeAtomically(join(directory, IDENTITY_FILE), JSON.stringify(next));
      identity = next;
    },
    assignment: () => readAssignment(join(directory, 'assignment.json'), log),
    saveAssignment(read) {
      pending = read;
      cancel ??= clock.after(WRITE_DELAY, () => {
        writeNow().catch((thrown) => log.error(`cannot write the assignment to disk: ${messageOf(thrown)}`));
      });
    },
    flush: writeNow,
  };
}

/** A damaged copy is ignored: the manager has the original. */
function readAssignment(path: string, log: Log): Assignment | undefined {
  try {
    const assignment = readJson<Assignment>(path);
    if (assignment === undefined) return undefined;
    const lists = [assignment.networks, assignment.peers, assignment.ports, assignment.tasks];
    if (
      typeof assignment.revision === 'number' &&
      typeof assignment.self?.nodeId === 'string' &&
      lists.every(Array.isArray)
    ) {
      return assignment;
    }
    log.warn(`${path} is not an assignment; waiting for the manager`);
  } catch (thrown) {
    log.warn(messageOf(thrown));
  }
  return undefined;
}

function readJson<T>(path: string): T | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new MeshError('corrupt', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
  try {
    const value = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value;
  } catch {
    // Reported below.
  }
  throw new MeshError('corrupt', `${path} is damaged; restore it, or remove it and join the cluster as a new node`);
}

/** Writes all of it or nothing; it is on the disk when the promise resolves. */
async function writeAtomically(path: string, text: string): Promise<void> {
  const temporary = `${path}.new`;
  try {
    const file = await open(temporary, 'w', 0o600);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw new MeshError('exhausted', `cannot write ${path}: ${messageOf(cause)}`, { retry: true, cause });
  }
}
