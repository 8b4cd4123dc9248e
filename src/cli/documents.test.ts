import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runMeshctl } from './run.ts';
import { fakeIo } from './test-setup.test-data.ts';

/*
 * Every YAML block of the documents is a manifest, or a part of a service that becomes one with a command and a runtime.
 * A block that is followed by `$ meshctl config FILE` and its output is checked with that output; FILE may also be one of
 * the repository.
 */

const root = new URL('../../', import.meta.url);
const documents = ['README.md', ...readdirSync(new URL('docs', root)).map((name) => `docs/${name}`)];

interface Example {
  title: string;
  yaml: string;
  /** The file name in the output, and what follows the command. */
  file: string;
  output?: string;
}

const examples = documents.flatMap((document): Example[] => {
  const text = readFileSync(new URL(document, root), 'utf8');
  const blocks = text.matchAll(/^```yaml\n(.*?)^```\n(?:\s*^```\n\$ meshctl config (\S+)\n(.*?)^```\n)?/gms);
  const ofFiles = text.matchAll(/^```\n\$ meshctl config (examples\/\S+)\n(.*?)^```\n/gms);
  const title = (index: number) => `${document}:${text.slice(0, index).split('\n').length}`;
  return [
    ...[...blocks].map(({ index, 1: yaml, 2: file, 3: output }) => ({
      title: title(index),
      yaml: yaml!,
      file: file ?? 'example.yaml',
      ...(output === undefined ? {} : { output }),
    })),
    ...[...ofFiles].map(({ index, 1: file, 2: output }) => ({
      title: title(index),
      yaml: readFileSync(new URL(file!, root), 'utf8'),
      file: 'example.yaml',
      output: output!,
    })),
  ];
});

function toManifest(yaml: string): string {
  if (/^services:/m.test(yaml)) return yaml;
  const added = [
    ...(/^command:/m.test(yaml) ? [] : ['command: [server]']),
    ...(/^x-mesh:/m.test(yaml) ? [] : ['x-mesh: {runtime: process}']),
  ];
  const service = [...yaml.trimEnd().split('\n'), ...added].map((line) => `    ${line}`).join('\n');
  return `services:\n  example:\n${service}\n`;
}

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'documents-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

describe('examples of the documents', () => {
  test.each(examples)('$title', async ({ yaml, file, output }) => {
    const path = join(directory, file);
    writeFileSync(path, toManifest(yaml));
    const io = fakeIo({ environment: { PWD: '/srv' } });
    const status = await runMeshctl(['config', path], io);
    const printed = `${io.stdout}${io.stderr}`.replaceAll(`${directory}/`, '');
    if (output === undefined) expect([status, printed]).toEqual([0, expect.stringContaining('services:')]);
    else expect(printed).toBe(output);
  });

  test('are found', () => {
    expect(examples.length).toBeGreaterThan(10);
    expect(examples.filter(({ output }) => output !== undefined).length).toBeGreaterThan(1);
  });
});
