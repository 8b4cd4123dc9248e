import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { type FakeMeshd, startFakeMeshd } from './fake-meshd.test-data.ts';
import type { Io } from './io.ts';
import { runMeshctl } from './run.ts';

/** For tests: a meshd, a directory for files, and a function to run verbs; created anew for each test. */
export function setUp() {
  let meshd: FakeMeshd;
  let directory: string;
  beforeEach(async () => {
    meshd = await startFakeMeshd();
    directory = await mkdtemp(join(tmpdir(), 'meshctl-files-'));
  });
  afterEach(async () => {
    await meshd.stop();
    await rm(directory, { recursive: true });
  });
  return {
    get meshd() {
      return meshd;
    },
    get directory() {
      return directory;
    },
    async meshctl(args: readonly string[], given: Partial<Io> = {}) {
      const io = fakeIo({ environment: { MESHCTL_HOST: meshd.host }, ...given });
      const status = await runMeshctl(args, io);
      return { status, stdout: io.stdout, stderr: io.stderr };
    },
    /** Writes a file and gives its path. */
    async file(name: string, text: string | Uint8Array): Promise<string> {
      const path = join(directory, name);
      await writeFile(path, text);
      return path;
    },
  };
}

/** A manifest of one service; `more` stands behind its `x-mesh`. */
export const manifest = (name = 'web', more = '') =>
  `services: {${name}: {command: [node, whoami.mjs], ports: ["8080:80"], deploy: {replicas: 3}, x-mesh: {runtime: process}${more}}}`;

/** An Io that records its output; `sleep` is fifty times shorter than real time. */
export function fakeIo(given: Partial<Io> = {}): Io & { stdout: string; stderr: string; interrupt(): void } {
  const interrupts = new Set<() => void>();
  const io = {
    stdout: '',
    stderr: '',
    out: (text: string) => {
      io.stdout += text;
    },
    err: (text: string) => {
      io.stderr += text;
    },
    raw: (text: string) => {
      io.stdout += text;
    },
    terminal: false,
    columns: 80,
    rows: 24,
    colour: false,
    environment: {},
    input: (async function* () {})() as AsyncIterable<Uint8Array>,
    now: () => 61_000,
    sleep: (milliseconds: number, signal: AbortSignal) =>
      new Promise<void>((resolve) => {
        setTimeout(resolve, milliseconds / 50);
        signal.addEventListener('abort', () => resolve());
      }),
    onInterrupt: (callback: () => void) => {
      interrupts.add(callback);
      return () => interrupts.delete(callback);
    },
    interrupt: () => {
      for (const callback of interrupts) callback();
    },
    ...given,
  };
  return io;
}
