import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { createManager } from '../manager/manager.ts';
import { controlChecks } from '../rpc/check-messages.ts';
import { Control } from '../rpc/gen/mesh_pb.js';
import type { SessionHandler } from '../rpc/grpc-server.ts';
import { type Implementation, implement } from '../rpc/service.ts';
import { openEmbeddedStore } from '../store/embedded.ts';
import { type DaemonOptions, VERSION } from './meshd-options.ts';

export interface ManagerRole {
  control: Implementation;
  serveSession: SessionHandler;
  /** Begins to decide; call it once the services can be reached. */
  start(): void;
  /** Calling it again waits for the same end. */
  stop(): Promise<void>;
}

/** The manager on its store. Errors: those of the store (`corrupt`, `conflict`, `exhausted` …) and of the cluster's options. */
export async function openManagerRole(options: DaemonOptions, clock: Clock, log: Log): Promise<ManagerRole> {
  const { stateDir, ingressSubnet, families } = options;
  const store = await openEmbeddedStore(join(stateDir, 'store'), log);
  try {
    const manager = await createManager({
      store,
      clock,
      log,
      version: VERSION,
      ...(families === undefined ? {} : { families }),
      ...(ingressSubnet === undefined ? {} : { ingressSubnet }),
    });
    let stopping: Promise<void> | undefined;
    return {
      control: implement(Control, controlChecks, manager.handlers.control, log),
      serveSession: manager.handlers.serveSession,
      start: () => manager.start(),
      stop() {
        stopping ??= manager.stop().then(() => store.close());
        return stopping;
      },
    };
  } catch (thrown) {
    await store.close();
    throw thrown;
  }
}
