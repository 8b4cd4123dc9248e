import { setFlagsFromString } from 'node:v8';

/** From this number of ports on, speed matters more than some megabytes: a cold start takes seconds. */
const MANY_PORTS = 1_000;

/**
 * Tunes V8 for the number of ports. With few ports the daemon is mostly idle: a small young generation and no baseline
 * compiler save 10 MB, and a single thread collects garbage, because waking others costs more. To be called before the
 * heap has grown: V8 does not return the space.
 */
export function tuneHeap(ports: number): void {
  const many = ports >= MANY_PORTS;
  setFlagsFromString(`--semi-space-growth-factor=${many ? 2 : 1}`);
  setFlagsFromString(many ? '--sparkplug' : '--no-sparkplug');
  setFlagsFromString(many ? '--parallel-scavenge' : '--no-parallel-scavenge');
}
