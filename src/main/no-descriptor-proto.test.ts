import * as library from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { MethodOptions_IdempotencyLevel } from './no-descriptor-proto.ts';

test('the enum that stands in for the library’s has its values', () => {
  expect(library.MethodOptions_IdempotencyLevel).toMatchObject(MethodOptions_IdempotencyLevel);
  expect(Object.values(MethodOptions_IdempotencyLevel)).toHaveLength(
    library.MethodOptions_IdempotencyLevelSchema.values.length,
  );
});
