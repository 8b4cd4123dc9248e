import * as library from '@bufbuild/protobuf/wkt';
import { build } from 'esbuild';
import { expect, test } from 'vitest';
// @ts-expect-error: scripts of the build have no types
import { literalDescriptors } from '../../generate.mjs';
import { MethodOptions_IdempotencyLevel } from './no-descriptor-proto.ts';

test('the enum that stands in for the library’s has its values', () => {
  const { values } = library.MethodOptions_IdempotencyLevelSchema;
  const expected = values.map(({ localName, number }) => [localName, number]);
  expect(Object.entries(MethodOptions_IdempotencyLevel)).toEqual(expected);
});

test.each(['client', 'server'])('a bundle with %s.ts does not load descriptor.proto', async (module) => {
  const bundle = await build({
    entryPoints: [`${import.meta.dirname}/../rpc/${module}.ts`],
    bundle: true,
    platform: 'node',
    format: 'esm',
    external: ['@grpc/*'],
    plugins: [literalDescriptors],
    write: false,
  });
  const { text } = bundle.outputFiles[0]!;
  expect(text.includes('"mesh.proto"')).toBe(true);
  expect(text.includes('google/protobuf/descriptor.proto')).toBe(false);
});
