/** Every bound on what a manifest may ask for, in one place. What exceeds one is refused with a message that names it. */
export const LIMITS = {
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
  /** Tasks of one service: the scheduler and every node's balancer hold them all in memory. */
  replicas: 10_000,
  /** Published ports of one service. */
  portsPerService: 1000,
  /** Published ports of one apply: there are no more numbers in one protocol. */
  ports: 65_535,
  constraints: 64,
  /** Bytes of one argument or `KEY=value`; MAX_ARG_STRLEN of the kernel (include/uapi/linux/binfmts.h) counts the NUL too. */
  argument: 131_071,
  /** Milliseconds of any duration; a timer of Node ends at 2^31 ms, which is 24.8 days. */
  duration: 7 * 24 * 3_600_000,
  /** Errors handed back; more would only scroll the first one away. */
  errors: 20,
} as const;
