import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Kernel, Scope } from '../../kernel/kernel.ts';
import { coversKind } from '../../kernel/kernel.ts';
import { sameValue } from '../../model/equality.ts';
import { HOST_NETNS } from '../../model/linux-names.ts';
import type { NodeCapabilities } from '../../plan/context.ts';

export interface HostRoutingWatchOptions {
  kernel: Pick<Kernel, 'hostRouting'>;
  log: Log;
  /** All but the host's routing, which is added. */
  capabilities: NodeCapabilities;
  onChange(before: NodeCapabilities): void;
}

/** Keeps the capabilities of this node up to date with the host's own routing. */
export interface HostRoutingWatch {
  capabilities(): NodeCapabilities;
  /** Reads the routing, once more if it is being read. Without it, what was read before stays in use. */
  refresh(): Promise<void>;
  /** Refreshes if a change in this scope may concern it. */
  onKernelChange(scope: Scope): void;
}

export function createHostRoutingWatch(options: HostRoutingWatchOptions): HostRoutingWatch {
  const { kernel, log } = options;
  let { capabilities } = options;
  let reading: Promise<void> | undefined;
  let isOutdated = false;

  async function read(): Promise<void> {
    do {
      isOutdated = false;
      try {
        const hostRouting = await kernel.hostRouting();
        if (sameValue(hostRouting, capabilities.hostRouting)) continue;
        const before = capabilities;
        capabilities = { ...before, hostRouting };
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
    capabilities: () => capabilities,
    refresh,
    onKernelChange(scope) {
      if ((scope.netns?.includes(HOST_NETNS) ?? true) && coversKind(scope, 'host-rule')) void refresh();
    },
  };
}
