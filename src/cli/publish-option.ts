import { parseLongPort, parseShortPort } from '../manifest/ports.ts';
import type { PortSpec } from '../model/spec.ts';
import { UsageError } from './context.ts';

/** Docker's `--publish-add`: `8080:80/udp`, or `published=8080,target=80,protocol=tcp,mode=host`; ranges give several. */
export function parsePublishAdd(word: string): PortSpec[] {
  const parsed = word.includes('=') ? parseLongPort(parseLongFields(word, '--publish-add')) : parseShortPort(word);
  if (parsed.ok) return parsed.value;
  throw invalidOption('--publish-add', word, parsed.error);
}

/** Docker's `--publish-rm`: the port inside the task, `80`, `80/udp` or `target=80,mode=host`. */
export function parsePublishRm(word: string): PortSpec[] {
  if (word.includes('=')) {
    // Docker accepts the long form here and ignores the published port.
    const { published: _, ...fields } = parseLongFields(word, '--publish-rm');
    const parsed = parseLongPort(fields);
    if (parsed.ok) return parsed.value;
    throw invalidOption('--publish-rm', word, parsed.error);
  }
  if (word.includes(':')) {
    const message = 'specifies a published port, but --publish-rm expects the port inside the task';
    throw invalidOption('--publish-rm', word, { message, remedy: 'use 80, 80/udp or target=80,mode=host' });
  }
  const parsed = parseShortPort(word);
  if (parsed.ok) return parsed.value;
  throw invalidOption('--publish-rm', word, parsed.error);
}

const FIELDS = ['target', 'published', 'protocol', 'mode'] as const;

function parseLongFields(word: string, option: string): Parameters<typeof parseLongPort>[0] {
  const fields: Partial<Record<(typeof FIELDS)[number], string>> = {};
  for (const part of word.split(',')) {
    const equals = part.indexOf('=');
    const name = (equals < 0 ? part : part.slice(0, equals)).trim().toLowerCase();
    const field = FIELDS.find((known) => known === name);
    if (field === undefined || equals < 0) {
      const message = equals < 0 ? `"${part}" is not KEY=VALUE` : `"${name}" is not a key of a port`;
      throw invalidOption(option, word, { message, remedy: `use target=80,published=8080; ${FIELDS_HINT}` });
    }
    fields[field] = part.slice(equals + 1).trim();
  }
  const { target, ...rest } = fields;
  if (target !== undefined && target !== '') return { target, ...rest };
  const message = 'has no target port';
  throw invalidOption(option, word, { message, remedy: 'add target=80' });
}

const FIELDS_HINT = `keys are ${FIELDS.join(', ')}; other settings of a port belong in the manifest`;

function invalidOption(option: string, word: string, problem: { message: string; remedy: string }): UsageError {
  return new UsageError(`${option} "${word}": ${problem.message}; ${problem.remedy}`);
}
