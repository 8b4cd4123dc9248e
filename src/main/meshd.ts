import { flushCompileCache } from 'node:module';
import { MeshError } from '../base/errors.ts';
import { createLog } from '../base/log.ts';
import { keepCompiledCode } from './compile-cache.ts';
import { tuneHeap } from './heap-size.ts';
import { type DaemonOptions, parseMeshd, type ResetOptions } from './meshd-options.ts';
import { nodeName } from './node-name.ts';

/*
 * Start reading here. The daemon has two parts that communicate only over gRPC: a manager (src/manager: desired state)
 * and an agent (src/agent: applies it to this machine). daemon.ts starts them.
 */

const invocation = parseMeshd(process.argv.slice(2));
if (invocation.verb === 'run') await run(invocation.options);
else if (invocation.verb === 'reset') await reset(invocation.options);
else process.exitCode = invocation.status;

async function run(options: DaemonOptions): Promise<void> {
  tuneHeap(0);
  keepCompiledCode();
  const { name, notice } = nodeName(options);
  const log = createLog(options.logLevel, { node: name });
  if (notice !== undefined) log.warn(notice);
  // The state of this process is unknown now; the next one adopts the existing kernel state.
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
    daemon = await startDaemon({ ...options, name }, log);
    flushCompileCache(); // Node would write it at the end, which a killed daemon does not have
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

/** Prints the message of an expected error (MeshError), and the stack of any other. */
function exitWithError(thrown: unknown): never {
  const text = thrown instanceof MeshError ? thrown.message : ((thrown as Error)?.stack ?? String(thrown));
  process.stderr.write(`meshd: ${text}\n`);
  process.exit(1);
}
