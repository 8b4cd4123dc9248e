import { LIMIT } from '../model/limits.ts';

/**
 * Every bound on a manifest, in one place: those of the model, which the manager holds too, and those of the text.
 * A manifest that exceeds one is rejected with a message that names the limit.
 */
export const LIMITS = {
  ...LIMIT,
  /** Characters of one file. A thousand services are about 200 KiB; parsing the whole mebibyte takes seconds, not minutes. */
  textLength: 1024 * 1024,
  /** Maps, lists and scalars of one file, aliases expanded: what an anchor bomb multiplies. */
  nodes: 250_000,
  /** Characters of all scalars of one file, aliases expanded: keeps one apply inside one 4 MiB gRPC message. */
  characters: 2 * 1024 * 1024,
  /** Nesting. compose-spec itself needs 7 levels; parsers of nested text recurse, and stacks end. */
  depth: 64,
  /** Services of one apply. */
  services: 10_000,
  /** Published ports of one apply: there are no more numbers in one protocol. */
  totalPorts: 65_535,
  /** Reported errors; more would scroll the first one away. */
  errors: 20,
} as const;
