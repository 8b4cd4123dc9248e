import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parseManifest } from './manifest.ts';
import { formatManifestError } from './manifest-error.ts';

const directory = new URL('../../examples/', import.meta.url);

test.each(readdirSync(directory).filter((name) => name.endsWith('.yaml')))('%s is a manifest', (file) => {
  const text = readFileSync(new URL(file, directory), 'utf8');
  const result = parseManifest(text, { file, environment: { PWD: '/srv' } });
  expect(result.ok ? [] : result.error.map(formatManifestError)).toEqual([]);
});
