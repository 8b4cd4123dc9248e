/** Bounds of what people and other machines may hand us; beyond them input is refused. */
export const LIMIT = {
  /** Characters of names of services, nodes, networks; of label keys. */
  name: 63,
  /** Characters of one value: labels, constraints. */
  value: 4_096,
  /** Bytes of one argument or environment entry: MAX_ARG_STRLEN in include/uapi/linux/binfmts.h, less its NUL. */
  argument: 131_071,
  arguments: 16_384,
  entries: 16_384,
  constraints: 64,
  ports: 1_024,
  /** Networks in one list of a port: its clients, its local addresses. */
  cidrs: 256,
  /** Tasks of one service. */
  replicas: 10_000,
  /** Services in one request, and in the cluster. */
  services: 65_535,
  /** Bytes of one file of a task's log, and the number of its files. */
  logSize: { min: 4_000, max: 4_000_000_000 },
  logFiles: 100,
  /** Milliseconds: a week; Node's timers end at 2^31 ms. */
  duration: 604_800_000,
} as const;

/** Names of services and nodes: they end up in file names, environment and tables. */
export const NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;
