import { setFlagsFromString } from 'node:v8';

/** Ports from which on speed is worth more than some megabytes: a cold start with them is seconds of work. */
const MANY_PORTS = 1_000;

/**
 * Tells V8 how many ports the daemon serves. With few it mostly waits: then there is little room for young objects and no
 * code of the baseline compiler beside the optimising one's, 10 MB in all; and one thread clears what little there is, for
 * waking others for it costs more. Call it first before the heap has grown: room that is there is not given back.
 */
export function tuneHeap(ports: number): void {
  const many = ports >= MANY_PORTS;
  setFlagsFromString(`--semi-space-growth-factor=${many ? 2 : 1}`);
  setFlagsFromString(many ? '--sparkplug' : '--no-sparkplug');
  setFlagsFromString(many ? '--parallel-scavenge' : '--no-parallel-scavenge');
}
