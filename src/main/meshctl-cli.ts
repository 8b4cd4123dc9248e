import { processIo } from '../cli/io.ts';
import { runMeshctl } from '../cli/run.ts';

/* The commands, in a bundle of their own: see meshctl.ts. */

void runMeshctl(process.argv.slice(2), processIo()).then((status) => {
  process.exitCode = status;
});
