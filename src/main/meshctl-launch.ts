import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Script } from 'node:vm';

/*
 * meshctl, from what build.mjs has compiled of it where Node takes that: it looks at its own version first. Compiling
 * anew takes longer than most verbs, and modules of their own as long again, hence one script and no ES module.
 */
const filename = join(__dirname, 'meshctl.script');
const script = new Script(readFileSync(filename, 'latin1'), { filename, cachedData: compiled() });
const { main } = script.runInThisContext()({ exports: {} }, require) as { main(): Promise<void> };
void main();

function compiled(): Buffer | undefined {
  try {
    return readFileSync(join(__dirname, 'meshctl.compiled'));
  } catch {
    return undefined;
  }
}
