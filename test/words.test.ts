import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

/** Files and folders whose comments, messages and documents use the words of Docker, Kubernetes and Linux networking. */
const PLACES = ['README.md', 'CHANGELOG.md', 'docs', 'examples', 'src', 'native', 'test', 'bench'];

/** Recorded data, output of generators and benchmarks, and this test, which quotes the expressions. */
const EXCLUDED =
  /\/(node_modules|fixtures|goldens|golden|gen|build|__snapshots__)$|^bench\/RESULTS\.md$|^test\/words\.test\.ts$/;

/** Extensions of text files; the scripts of test and bench have none. */
const WRITTEN = /\.(md|ts|mjs|yaml|c|cc|h|sh)$|^(test|bench)\/([^/]+\/)*[^/.]+$/;

/** Expressions of a private language, each with the usual word. */
const PRIVATE: readonly [pattern: RegExp, usual: string][] = [
  [/\bwish(es|ed)?\b/i, 'desired, requested, configured'],
  [/\bwanted\b/i, 'desired, expected'],
  [/\b(is|are|was|were|been|be) told\b|\btells?\b|\btold\b/i, 'reported, received, specified'],
  [/\bheard\b|\bhears\b/i, 'received'],
  [/\bput(s|ting)? (it |them |that )?right\b/i, 'repair'],
  [/\bgo(es)? on with\b/i, 'keeps using'],
  [/\b(is|are) to be had\b|\bhas not got\b/i, 'supported, available'],
  [/\bpatien(ce|t)\b/i, 'timeout'],
  [/\bwhoever\b/i, 'anyone who'],
  [/\bsome(body|one) else\b|\bsomebody\b/i, 'another process'],
  [/\bnobody\b|\beverybody\b/i, 'no one, everyone; or name the process'],
  [/\ba look at\b|\blooks? again\b|\blooked at\b/i, 'scan, observation'],
  [/\bthe wire\b/i, 'the underlay network'],
  [/\bcarr(y|ies) the mesh\b|\bis fit\b/i, 'meets the requirements'],
  [/\bmake no sense\b|\bmakes no sense\b/i, 'invalid'],
  [/\bmeans nothing\b|\bmean nothing\b/i, 'has no effect'],
  [/\bmeanwhile is waited for\b|\bis waited for\b/i, 'wait for'],
  [/\bshortcut\b/i, 'fast path'],
];

/** Names that have to be written: the deprecated flag with its variable, and the user `nobody` as a quoted value. */
const NAMES =
  /--shortcut\b|'shortcut'|\bshortcut(?= [!=]==? undefined| \?\? |, \.\.\.others)|(?<=')nobody(?=['-]|:daemon')|--reuid=nobody\b|\bnobody(?=\\n)/g;

function filesIn(path: string): string[] {
  if (EXCLUDED.test(path)) return [];
  const status = lstatSync(path);
  if (status.isDirectory()) return readdirSync(path).flatMap((name) => filesIn(join(path, name)));
  return status.isFile() && WRITTEN.test(path) ? [path] : [];
}

function privateWords(text: string): string[] {
  return text.split('\n').flatMap((line, index) => {
    const checked = line.replace(NAMES, '');
    return PRIVATE.flatMap(([pattern, usual]) => {
      const found = pattern.exec(checked)?.[0];
      return found === undefined ? [] : [`${index + 1}: "${found}", use: ${usual}`];
    });
  });
}

test.each(PLACES)('%s is written in plain words', (place) => {
  const found = filesIn(place).flatMap((file) =>
    privateWords(readFileSync(file, 'utf8')).map((word) => `${file}:${word}`),
  );
  expect(found).toEqual([]);
});

test('a private word is found, a name is not', () => {
  expect(privateWords('ok\nwhoever comes')).toEqual(['2: "whoever", use: anyone who']);
  expect(privateWords('`meshd --shortcut` is deprecated')).toEqual([]);
  expect(privateWords("{ user: 'nobody' }")).toEqual([]);
  expect(privateWords('nobody listens')).toEqual(['1: "nobody", use: no one, everyone; or name the process']);
});

test('sources, scripts and documents are read, recorded data is not', () => {
  const files = PLACES.flatMap(filesIn);
  for (const file of ['src/main/meshd.ts', 'native/task/common.h', 'test/run', 'test/host/vm', 'bench/host/node'])
    expect(files).toContain(file);
  expect(files.filter((file) => /fixtures|goldens\/|RESULTS|node_modules|words\.test/.test(file))).toEqual([]);
});
