import { execFileSync, spawn } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { build } from 'esbuild';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MeshError } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import type { Stored } from '../model/cluster.ts';
import { openEmbeddedStore } from './embedded.ts';
import type { Store, Write } from './store.ts';

const root = join(import.meta.dirname, '../..');
let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'store-damage-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const KEYS = 40;
/** Operation number n (1, 2 …) on a store of `KEYS` objects: the revision alone determines the whole content. */
const operation = `(store, n, size) => {
  const id = 'k' + (n % ${KEYS});
  const version = store.get('tasks', id)?.version ?? 0;
  if (n % 7 === 0 && version > 0) return { remove: 'tasks', id, version };
  return { put: 'tasks', object: { id, version, createdAt: n, updatedAt: n, value: String(n).repeat(size) } };
}`;
const operate = new Function(`return ${operation}`)() as (store: Store, n: number, size: number) => Write;

/** id → number of the operation that wrote it, after `revision` operations. */
function contentAt(revision: number): Map<string, number> {
  const content = new Map<string, number>();
  for (let n = 1; n <= revision; n += 1) {
    const id = `k${n % KEYS}`;
    if (n % 7 === 0 && content.has(id)) content.delete(id);
    else content.set(id, n);
  }
  return content;
}

function contentOf(store: Store): Map<string, number> {
  return new Map(store.list<Stored>('tasks').map((object) => [object.id, object.updatedAt]));
}

test('kill -9 at any moment: no acknowledged write is lost, no partial one is visible', {
  timeout: 120_000,
}, async () => {
  const place = join(directory, 'killed');
  mkdirSync(join(root, '.cache'), { recursive: true });
  const bundle = mkdtempSync(join(root, '.cache/store-test-'));
  try {
    const script = join(bundle, 'writer.mjs');
    await build({
      stdin: {
        contents: `
          import { openEmbeddedStore } from ${JSON.stringify(join(import.meta.dirname, 'embedded.ts'))};
          import { silentLog } from ${JSON.stringify(join(root, 'src/base/log.ts'))};
          const operate = ${operation};
          const store = await openEmbeddedStore(${JSON.stringify(place)}, silentLog());
          for (let n = store.revision() + 1; ; n += 1) {
            const { revision } = await store.transact([operate(store, n, 2000)]);
            process.stdout.write(revision + '\\n');
          }`,
        resolveDir: root,
      },
      outfile: script,
      bundle: true,
      format: 'esm',
      platform: 'node',
      external: ['classic-level', 'pino'],
      logLevel: 'error',
    });
    let acknowledged = 0;
    for (let round = 0; round < 8; round += 1) {
      const writer = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] });
      const ended = new Promise((resolve) => writer.once('exit', resolve));
      const enough = acknowledged + 150 + Math.floor(Math.random() * 400);
      for await (const line of createInterface({ input: writer.stdout })) {
        acknowledged = Number(line);
        if (acknowledged >= enough) writer.kill('SIGKILL'); // acknowledgements that are still in the pipe count too
      }
      await ended;
      const store = await openEmbeddedStore(place, silentLog());
      expect(store.revision()).toBeGreaterThanOrEqual(acknowledged);
      expect(contentOf(store)).toEqual(contentAt(store.revision()));
      acknowledged = store.revision();
      await store.close();
    }
    expect(acknowledged).toBeGreaterThan(1_000);
  } finally {
    rmSync(bundle, { recursive: true, force: true });
  }
});

type Damage = [name: string, harm: (path: string) => void];
const flip = (where: (size: number) => number) => (path: string) => {
  const bytes = readFileSync(path);
  const at = where(bytes.length);
  if (bytes.length > at) bytes[at] = bytes[at]! ^ 0x55;
  writeFileSync(path, bytes);
};
const DAMAGES: Damage[] = [
  ['deleted', (path) => rmSync(path)],
  ['emptied', (path) => truncateSync(path, 0)],
  ['cut in half', (path) => truncateSync(path, statSync(path).size >> 1)],
  ['cut by a byte', (path) => truncateSync(path, Math.max(0, statSync(path).size - 1))],
  ['changed at the beginning', flip(() => 3)],
  ['changed in the middle', flip((size) => size >> 1)],
  ['changed at the end', flip((size) => size - 20)],
  ['overwritten with zeros', (path) => writeFileSync(path, Buffer.alloc(statSync(path).size))],
];

test('each file damaged in turn: rejected with the reason, or complete; never silent data loss', {
  timeout: 120_000,
}, async () => {
  const whole = join(directory, 'whole');
  const store = await openEmbeddedStore(whole, silentLog());
  // Enough for tables of two levels and a log.
  for (let n = 1; n <= 500; n += 1) await store.transact([operate(store, n, 12_000)]);
  await store.close();
  const expected = contentAt(500);
  const files = readdirSync(whole, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const names = files.map((entry) => join(entry.parentPath, entry.name).slice(whole.length + 1));
  expect(names.some((name) => /\.ldb$/.test(name)) && names.some((name) => /\.log$/.test(name))).toBe(true);
  const refused = new Map<string, string>();
  for (const name of names) {
    for (const [damage, harm] of DAMAGES) {
      const copy = join(directory, 'copy');
      cpSync(whole, copy, { recursive: true });
      harm(join(copy, name));
      const what = `${name} ${damage}`;
      try {
        const opened = await openEmbeddedStore(copy, silentLog());
        expect(opened.revision(), what).toBe(500);
        expect(contentOf(opened), what).toEqual(expected);
        await opened.close();
      } catch (thrown) {
        if (!(thrown instanceof MeshError)) throw thrown;
        expect(thrown.code, what).toBe('corrupt');
        expect(thrown.message, what).toContain(copy);
        expect(thrown.message, what).toMatch(/backup/);
        refused.set(what, thrown.message);
      }
      rmSync(copy, { recursive: true, force: true });
    }
  }
  const log = names.find((name) => /\.log$/.test(name));
  const mustRefuse = [`${log} deleted`, `${log} emptied`, `${log} cut in half`, 'db/CURRENT deleted', 'HEAD emptied'];
  for (const what of mustRefuse) expect([...refused.keys()]).toContain(what);
});

test('a file that cannot be read does not mean a corrupt store: the error may be temporary', async () => {
  const place = join(directory, 'unreadable');
  const store = await openEmbeddedStore(place, silentLog());
  await store.transact([operate(store, 1, 1)]);
  await store.close();
  const name = readdirSync(join(place, 'db')).find((each) => each.startsWith('MANIFEST-'))!;
  const manifest = join(place, 'db', name);
  renameSync(manifest, `${manifest}.kept`);
  symlinkSync(name, manifest); // ELOOP: like EIO or EMFILE no sign of corruption
  await expect(openEmbeddedStore(place, silentLog())).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/unreadable cannot be read now: .*symbolic links; nothing was changed, see dmesg$/),
  });
  renameSync(`${manifest}.kept`, manifest);
  const again = await openEmbeddedStore(place, silentLog());
  expect(contentOf(again)).toEqual(contentAt(1));
  await again.close();
});

test('a missing database, or an older copy of it, is rejected, and existing files stay unchanged', async () => {
  const place = join(directory, 'rolled');
  const backup = join(directory, 'backup');
  const first = await openEmbeddedStore(place, silentLog());
  await first.transact([operate(first, 1, 1)]);
  await first.close();
  cpSync(join(place, 'db'), backup, { recursive: true });
  const second = await openEmbeddedStore(place, silentLog());
  await second.transact([operate(second, 2, 1)]);
  await second.close();
  rmSync(join(place, 'db'), { recursive: true });
  await expect(openEmbeddedStore(place, silentLog())).rejects.toMatchObject({
    code: 'corrupt',
    message: expect.stringMatching(/revision 2 was acknowledged, but the database is missing/),
  });
  expect(readdirSync(place)).toEqual(['HEAD']);
  cpSync(backup, join(place, 'db'), { recursive: true });
  await expect(openEmbeddedStore(place, silentLog())).rejects.toMatchObject({
    code: 'corrupt',
    message: expect.stringMatching(/revision 2 was acknowledged, but the database ends at 1/),
  });
});

test('disk full: an error without changes; writes succeed again once there is space', {
  timeout: 60_000,
}, async () => {
  const mount = join(directory, 'small');
  mkdirSync(mount);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', mount]);
  try {
    const filler = join(mount, 'filler');
    writeFileSync(filler, Buffer.alloc(10 * 1024 * 1024));
    const place = join(mount, 'state');
    const store = await openEmbeddedStore(place, silentLog());
    let n = 0;
    const fill = async () => {
      for (;;) {
        const before = { revision: store.revision(), content: contentOf(store) };
        try {
          await store.transact([operate(store, n + 1, 20_000)]);
          n += 1;
        } catch (thrown) {
          expect(thrown).toMatchObject({ code: 'exhausted' });
          expect({ revision: store.revision(), content: contentOf(store) }).toEqual(before);
          return;
        }
      }
    };
    await fill();
    expect(n).toBeGreaterThan(5);
    await fill(); // still full
    truncateSync(filler, 2 * 1024 * 1024);
    const had = n;
    for (let more = 0; more < 10; more += 1) {
      await store.transact([operate(store, n + 1, 10)]);
      n += 1;
    }
    expect(n).toBe(had + 10);
    await store.close();
    const again = await openEmbeddedStore(place, silentLog());
    expect(again.revision()).toBe(n);
    expect(contentOf(again)).toEqual(contentAt(n));
    await again.close();
  } finally {
    execFileSync('umount', [mount]);
  }
});
