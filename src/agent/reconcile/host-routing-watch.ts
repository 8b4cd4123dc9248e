import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Kernel, Scope } from '../../kernel/kernel.ts';
import { coversKind } from '../../kernel/kernel.ts';
import { sameValue } from '../../model/equality.ts';
import { HOST_NETNS } from '../../model/linux-names.ts';
import type { HostRouting } from '../../model/policy-rule.ts';

export interface HostRoutingWatchOptions {
  kernel: Pick<Kernel, 'hostRouting'>;
  log: Log;
  /** `before`: undefined for the first routing that was read. */
  onChange(before: HostRouting | undefined): void;
}

/** Reads the host's own routing, and again when the kernel announces changes. */
export interface HostRoutingWatch {
  /** As it was last read; undefined before that. */
  current(): HostRouting | undefined;
  /** Reads the routing, once more if it is being read. Without it, what was read before stays in use. */
  refresh(): Promise<void>;
  /** Refreshes if a change in this scope may concern it. */
  onKernelChange(scope: Scope): void;
}

export function createHostRoutingWatch(options: HostRoutingWatchOptions): HostRoutingWatch {
  const { kernel, log } = options;
  let current: HostRouting | undefined;
  let reading: Promise<void> | undefined;
  let isOutdated = false;

  async function read(): Promise<void> {
    do {
      isOutdated = false;
      try {
        const routing = await kernel.hostRouting();
        if (sameValue(routing, current)) continue;
        const before = current;
        current = routing;
        options.onChange(before);
      } catch (thrown) {
        log.warn(`cannot read the routing rules of the host: ${messageOf(thrown)}; answers may take another route`);
      }
    } while (isOutdated);
  }

  function refresh(): Promise<void> {
    if (reading !== undefined) isOutdated = true;
    reading ??= read().finally(() => {
      reading = undefined;
    });
    return reading;
  }

  return {
    current: () => current,
    refresh,
    onKernelChange(scope) {
      if ((scope.netns?.includes(HOST_NETNS) ?? true) && coversKind(scope, 'host-rule')) void refresh();
    },
  };
}
