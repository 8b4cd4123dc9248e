import { processIo } from '../cli/io.ts';
import { runMeshctl } from '../cli/run.ts';

const status = await runMeshctl(process.argv.slice(2), processIo());
// Not process.exit(): a slow reader of a pipe still gets all that was written.
process.exitCode = status;
