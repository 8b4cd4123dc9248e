import * as z from 'zod';
import { sameValue } from '../model/equality.ts';
import { DEFAULT_LOG, type LogLimits } from '../model/spec.ts';
import { count, describeValue, fail, oneOf } from './fields.ts';
import { LIMITS } from './limits.ts';
import { formatSize, parseSize } from './size.ts';

const maxSize = z.unknown().transform((value, ctx): number => {
  const { min, max } = LIMITS.logSize;
  const range = `choose one of ${formatSize(min)}-${formatSize(max)}`;
  const bytes = typeof value === 'string' || typeof value === 'number' ? parseSize(String(value)) : undefined;
  if (bytes === undefined) {
    const remedy = 'write a number with a unit (k, m, g), such as 10m';
    fail(ctx, `must be a size, but is ${describeValue(value)}`, remedy);
  } else if (bytes < min || bytes > max) {
    fail(ctx, `${formatSize(bytes)} is outside ${formatSize(min)}-${formatSize(max)}`, range);
  }
  return bytes ?? min;
});

const maxFile = count(LIMITS.logFiles, `choose one of 1-${LIMITS.logFiles}`).transform((files, ctx): number => {
  if (files === 0) fail(ctx, '0 files cannot hold a log', `choose one of 1-${LIMITS.logFiles}`);
  return files;
});

export const logOptions = z.strictObject({ 'max-size': maxSize.optional(), 'max-file': maxFile.optional() });

/** Docker's drivers that keep the output in bounded files on the node; meshd has one format for both. */
export const loggingKeys = z.strictObject({
  driver: oneOf('json-file', 'local').optional(),
  options: logOptions.nullish(),
});

/** `logging` of compose; undefined is what it is without the key. */
export const logging = loggingKeys.transform(({ options }): LogLimits | undefined => {
  const limits = {
    maxSize: options?.['max-size'] ?? DEFAULT_LOG.maxSize,
    maxFiles: options?.['max-file'] ?? DEFAULT_LOG.maxFiles,
  };
  return sameValue(limits, DEFAULT_LOG) ? undefined : limits;
});
