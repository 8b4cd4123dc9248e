import type * as z from 'zod';
import { err, ok, type Result } from '../base/errors.ts';
import { type PortSpec, portKey, type ServiceSpec } from '../model/spec.ts';
import { closestMatch } from './closest-match.ts';
import { exampleFor } from './compose-keys.ts';
import { type ManifestDocument, readDocuments } from './document.ts';
import { LIMITS } from './limits.ts';
import { type ManifestError, type Path, shorten } from './manifest-error.ts';
import { FILE_KEYS, file as fileSchema, keysAt, serviceNameError, serviceSchema, zodIssueText } from './schema.ts';

export interface ManifestSource {
  /** Name in error messages. */
  file: string;
  text: string;
}

export interface ManifestOptions {
  /** Values of `${NAME}`; the process environment is not used. */
  environment?: Readonly<Record<string, string | undefined>>;
}

/** Services of one text: compose-spec and `x-mesh`; see `parseManifests`. */
export function parseManifest(
  text: string,
  options: ManifestOptions & { file: string },
): Result<ServiceSpec[], ManifestError[]> {
  return parseManifests([{ file: options.file, text }], options);
}

/**
 * Services of several files, all of them or the errors: at most LIMITS.errors of them, in the order of the files and
 * lines. A file may hold several documents. A service or a published port that appears twice anywhere is an error.
 * Total: any text gives a result.
 */
export function parseManifests(
  sources: readonly ManifestSource[],
  options: ManifestOptions = {},
): Result<ServiceSpec[], ManifestError[]> {
  const errors: ManifestError[] = [];
  const parsedEntries: ParsedEntry[] = [];
  for (const { file, text } of sources) {
    const parsed = readDocuments(text, { file, environment: options.environment ?? {}, isTextField });
    const reportedErrors = new Set(parsed.errors.flatMap((error) => [positionOf(error), error.path]));
    const schemaErrors: ManifestError[] = [];
    let entries = 0;
    for (const document of parsed.documents) {
      entries += checkDocument(document, parsedEntries, schemaErrors);
    }
    if (entries === 0 && parsed.errors.length === 0 && schemaErrors.length === 0) {
      const remedy =
        'declare at least one, such as `services: {web: {command: [sleep, "60"], x-mesh: {runtime: process}}}`';
      errors.push({ file, line: 1, column: 1, path: '', message: 'declares no services', remedy });
    }
    // A value that could not be read is missing afterwards: report it once.
    for (const error of parsed.errors) errors.push(error);
    for (const error of schemaErrors)
      if (!reportedErrors.has(positionOf(error)) && !reportedErrors.has(error.path)) errors.push(error);
  }
  checkConflicts(parsedEntries, errors);
  if (errors.length === 0) return ok(parsedEntries.map(({ spec }) => spec));
  const order = new Map(sources.map(({ file }, index) => [file, index]));
  const unique = new Map(errors.map((error) => [`${positionOf(error)} ${error.path} ${error.message}`, error]));
  const sorted = [...unique.values()].sort(
    (a, b) => order.get(a.file)! - order.get(b.file)! || a.line - b.line || a.column - b.column,
  );
  return err(sorted.slice(0, LIMITS.errors));
}

/** A valid service and its position. */
interface ParsedEntry {
  spec: ServiceSpec;
  portEntries: number[];
  document: ManifestDocument;
  path: Path;
}

const positionOf = (error: ManifestError): string => `${error.file}:${error.line}:${error.column}`;

/** Fields whose scalars are text, whatever they look like: `FOO: 1.0`, `command: [sleep, 60]`, `user: 1000`. */
function isTextField(path: Path): boolean {
  if (path[0] !== 'services') return false;
  if (path[2] === 'healthcheck') return path[3] === 'test';
  const field = String(path[2] === 'deploy' ? path[3] : path[2]);
  return ['environment', 'labels', 'command', 'entrypoint', 'user', 'working_dir', 'cap_add', 'cap_drop'].includes(
    field,
  );
}

/** Adds the good services of a document and the errors of the others; returns how many services it declares. */
function checkDocument(document: ManifestDocument, parsedEntries: ParsedEntry[], errors: ManifestError[]): number {
  const { value } = document;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    const remedy = 'start with `services:` and put each service below it';
    errors.push(document.errorAt([], 'a manifest is a map with the key `services`', remedy));
    return 0;
  }
  const top = fileSchema.safeParse(value);
  for (const issue of top.error?.issues ?? []) errors.push(...toManifestErrors(issue, [], document, value, FILE_KEYS));
  if (Object.hasOwn(value, 'x-mesh')) {
    const remedy = 'move it to each service, beside `command`; use another name for an anchor, such as `x-base`';
    errors.push(document.errorAt(['x-mesh'], '`x-mesh` belongs inside a service', remedy, 'key'));
  }
  const services: unknown = (value as Record<string, unknown>)['services'];
  if (typeof services !== 'object' || services === null || Array.isArray(services)) return 0;
  for (const [name, entry] of Object.entries(services)) {
    const path = ['services', name];
    const nameError = serviceNameError(name);
    if (nameError !== undefined) errors.push(document.errorAt(path, nameError.message, nameError.remedy, 'key'));
    const service = serviceSchema.safeParse(entry);
    if (service.success) {
      parsedEntries.push({
        spec: { name, ...service.data.spec },
        portEntries: service.data.portEntries,
        document,
        path,
      });
    } else {
      const { issues } = service.error;
      // With `image` or `build` the unsupported key is the only relevant error.
      const image = issues.some(
        (issue) => issue.code === 'unrecognized_keys' && /^(image|build)$/m.test(issue.keys.join('\n')),
      );
      for (const issue of issues) {
        if (image && issue.code === 'custom' && issue.path.length === 0) continue;
        errors.push(...toManifestErrors(issue, path, document, entry, keysAt(issue.path)));
      }
    }
  }
  return Object.keys(services).length;
}

/** Converts an issue of zod to errors with a remedy. */
function toManifestErrors(
  issue: z.core.$ZodIssue,
  base: Path,
  document: ManifestDocument,
  value: unknown,
  keys: { known: string[]; unsupported: Record<string, string> },
): ManifestError[] {
  const path = [...base, ...issue.path.map((step) => (typeof step === 'number' ? step : String(step)))];
  if (issue.code === 'unrecognized_keys') {
    // In the order of the text, and only as many as are shown: the search for the closest key is slow.
    return issue.keys.slice(0, LIMITS.errors).map((key) => {
      const instead = Object.hasOwn(keys.unsupported, key) ? keys.unsupported[key] : undefined;
      if (instead !== undefined) {
        const message = `\`${key}\` is a compose key that meshd does not support yet`;
        return document.errorAt([...path, key], message, instead, 'key');
      }
      const near = closestMatch(key, [...keys.known, ...Object.keys(keys.unsupported)]);
      const one = keys.known.length === 1 ? `use \`${keys.known[0]}\`` : `use one of ${keys.known.join(', ')}`;
      const note = path.includes('x-mesh') ? ', or remove it' : ', or an `x-` key for a note';
      const remedy = near === undefined ? `${one}${note}` : `did you mean \`${near}\`?`;
      return document.errorAt([...path, key], `unknown key \`${shorten(key)}\``, remedy, 'key');
    });
  }
  if (issue.code === 'custom') {
    // An error of a whole service points at its name, not at its first key.
    const at = issue.path.length === 0 ? 'key' : 'value';
    return [document.errorAt(path, issue.message, String(issue.params?.['remedy']), at)];
  }
  const input = issue.path.reduce<unknown>(
    (inner, step) => (inner as Record<PropertyKey, unknown> | null)?.[step],
    value,
  );
  return [document.errorAt(path, zodIssueText(issue, input), exampleFor(path), input === undefined ? 'key' : 'value')];
}

/** Conflicts between services: duplicate names and published ports, and limits of one apply. */
function checkConflicts(parsedEntries: readonly ParsedEntry[], errors: ManifestError[]): void {
  const names = new Map<string, ParsedEntry>();
  const usedPorts = new Map<string, { at: ManifestError; service: string; mode: PortSpec['mode'] }>();
  let ports = 0;
  for (const { spec, portEntries, document, path } of parsedEntries) {
    const duplicate = names.get(spec.name);
    if (duplicate !== undefined) {
      const first = duplicate.document.errorAt(duplicate.path, '', '', 'key');
      const message = `service ${spec.name} is declared twice, first at ${positionOf(first)}`;
      errors.push(document.errorAt(path, message, 'rename or remove one of them', 'key'));
      continue;
    }
    names.set(spec.name, { spec, portEntries, document, path });
    ports += spec.ports.length;
    spec.ports.forEach((port, index) => {
      const at = document.errorAt([...path, 'ports', portEntries[index]!], '', '');
      const { published, protocol, target, mode } = port;
      const key =
        published === undefined ? `auto ${mode} ${spec.name} ${target}/${protocol}` : portKey({ published, protocol });
      const other = usedPorts.get(key);
      if (other === undefined) usedPorts.set(key, { at, service: spec.name, mode });
      // Tasks of two services with one host port never share a node, as in Swarm.
      else if (other.service === spec.name || other.mode !== 'host' || mode !== 'host') {
        const what = published === undefined ? `automatic port for ${target}/${protocol}` : `published port ${key}`;
        const message = `${what} is already published by service ${other.service} at ${positionOf(other.at)}`;
        errors.push({ ...at, message, remedy: 'choose another port, or remove one of them' });
      }
    });
  }
  const last = parsedEntries.at(-1);
  if (last === undefined) return;
  const beyond = (what: string, limit: number): void => {
    const message = `declares more than ${limit} ${what} in total`;
    errors.push(last.document.errorAt(last.path, message, 'apply them in several steps', 'key'));
  };
  if (names.size > LIMITS.services) beyond('services', LIMITS.services);
  if (ports > LIMITS.totalPorts) beyond('ports', LIMITS.totalPorts);
}
