import type { ServiceSpec } from '../model/spec.ts';
import { parseManifest } from './manifest.ts';
import { formatManifestError } from './manifest-error.ts';

/** For tests: what becomes of a manifest, by the short way. */
export const options = { file: 's.yaml', environment: { HOME_DIR: '/srv', EMPTY: '' } };

export function specs(text: string): ServiceSpec[] {
  const result = parseManifest(text, options);
  if (!result.ok) throw new Error(result.error.map(formatManifestError).join('\n'));
  return result.value;
}

export function errors(text: string): string[] {
  const result = parseManifest(text, options);
  if (result.ok) throw new Error(`accepted: ${JSON.stringify(result.value).slice(0, 200)}`);
  return result.error.map(formatManifestError);
}

/** A manifest of one service `a` with more keys, in flow style. */
export const service = (keys: string) => `services: {a: {command: [x], x-mesh: {runtime: process}, ${keys}}}`;

export const specOf = (keys: string): ServiceSpec => specs(service(keys))[0]!;
