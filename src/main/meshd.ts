import { MeshError } from '../base/errors.ts';
import { createLog } from '../base/log.ts';
import { tuneHeap } from './heap-size.ts';
import { type DaemonOptions, parseMeshd, type ResetOptions } from './meshd-options.ts';

/*
 * Start reading here. The daemon is two parts that only meet over gRPC: a manager (src/manager: what should be) and an
 * agent (src/agent: makes this machine so). daemon.ts puts them together.
 */

const invocation = parseMeshd(process.argv.slice(2));
if (invocation.verb === 'run') await run(invocation.options);
else if (invocation.verb === 'reset') await reset(invocation.options);
else process.exitCode = invocation.status;

async function run(options: DaemonOptions): Promise<void> {
  tuneHeap(0);
  const log = createLog(options.logLevel, { node: options.name });
  // Whatever state this process is in now is not to be trusted; the next one adopts what is in the kernel.
  const crash = (thrown: unknown) => {
    log.fatal({ err: thrown }, 'meshd ends after an error it did not expect; please report it');
    process.exit(1);
  };
  process.on('uncaughtException', crash);
  process.on('unhandledRejection', crash);
  let stopRequested = false;
  let daemon: { stop(): Promise<void> } | undefined;
  const end = () => {
    if (stopRequested) return;
    stopRequested = true;
    log.info('meshd stops; kernel objects and tasks stay as they are');
    (daemon?.stop() ?? Promise.resolve()).then(() => process.exit(0), crash);
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
  process.on('SIGHUP', () => {});
  try {
    const { startDaemon } = await import('./daemon.ts');
    daemon = await startDaemon(options, log);
  } catch (thrown) {
    exitWithError(thrown);
  }
}

async function reset(options: ResetOptions): Promise<void> {
  try {
    const { runReset } = await import('./reset.ts');
    process.stdout.write(
      `${await runReset(options, createLog(options.logLevel === 'info' ? 'warn' : options.logLevel))}\n`,
    );
    process.exit(0);
  } catch (thrown) {
    exitWithError(thrown);
  }
}

/** What was expected to go wrong is told in words; the rest with its stack. */
function exitWithError(thrown: unknown): never {
  const text = thrown instanceof MeshError ? thrown.message : ((thrown as Error)?.stack ?? String(thrown));
  process.stderr.write(`meshd: ${text}\n`);
  process.exit(1);
}
