import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Kernel } from '../../kernel/kernel.ts';
import { sameValue } from '../../model/equality.ts';
import type { HostRouting } from '../../model/policy-rule.ts';

export interface HostRoutingWatchOptions {
  kernel: Pick<Kernel, 'hostRouting' | 'hostNetwork'>;
  log: Log;
  /** `before`: undefined for the first routing that was read. */
  onChange(before: HostRouting | undefined): void;
}

/** Knows the host's own routing. */
export interface HostRoutingWatch {
  /** As it was last read; undefined before that. */
  current(): HostRouting | undefined;
  /** Reads the routing, and from now on after each change of rules, addresses and links. */
  start(): Promise<void>;
  /** Reads it: the kernel does not announce changes of sysctls. If that fails, what was read before stays in use. */
  refresh(): Promise<void>;
  stop(): void;
}

export function createHostRoutingWatch({ kernel, log, onChange }: HostRoutingWatchOptions): HostRoutingWatch {
  let current: HostRouting | undefined;
  let reading: Promise<void> | undefined;
  let isOutdated = false;
  let stop = () => {};

  async function read(): Promise<void> {
    do {
      isOutdated = false;
      try {
        const routing = await kernel.hostRouting();
        if (sameValue(routing, current)) continue;
        const before = current;
        current = routing;
        onChange(before);
      } catch (thrown) {
        log.warn(`cannot read the routing rules of the host: ${messageOf(thrown)}; answers may take another route`);
      }
    } while (isOutdated);
  }

  /** Of several calls during a read, one more read is enough. */
  function refresh(): Promise<void> {
    if (reading !== undefined) isOutdated = true;
    reading ??= read().finally(() => {
      reading = undefined;
    });
    return reading;
  }

  return {
    current: () => current,
    start() {
      stop = kernel.hostNetwork.watch(({ of }) => {
        if (of !== 'route') void refresh();
      });
      return refresh();
    },
    refresh,
    stop: () => stop(),
  };
}
