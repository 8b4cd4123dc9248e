import { processIo } from '../cli/io.ts';
import { runMeshctl } from '../cli/run.ts';

export { runMeshctl };

/** Runs the command line of this process. */
export async function main(): Promise<void> {
  // Not process.exit(): a slow reader of a pipe still gets all that was written.
  process.exitCode = await runMeshctl(process.argv.slice(2), processIo());
}
