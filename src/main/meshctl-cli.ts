import { processIo } from '../cli/io.ts';
import { runMeshctl } from '../cli/run.ts';
import { SmallHeaders } from '../rpc/small-headers.ts';

/* The commands, in a bundle of their own: see meshctl.ts. */

// Assigned, for defining the property anew would load what it stands for.
globalThis.Headers = SmallHeaders as unknown as typeof Headers;

void runMeshctl(process.argv.slice(2), processIo()).then((status) => {
  process.exitCode = status;
});
