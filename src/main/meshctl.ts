import { processIo } from '../cli/io.ts';
import { runMeshctl } from '../cli/run.ts';

export { runMeshctl };

/** Runs the command line of this process. */
export async function main(): Promise<void> {
  process.exitCode = await runMeshctl(process.argv.slice(2), processIo());
}
