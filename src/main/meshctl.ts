import { setFlagsFromString } from 'node:v8';
import { keepCompiledCode } from './compile-cache.ts';

/*
 * Most commands end before V8's compilers behind the interpreter have earned what they cost, and the other threads that
 * clear few objects theirs: 40 ms of CPU of 240 (service ls). They start fifty times later than by default, so that a
 * long manifest still has them. Before that: Node's own modules come with code that V8 refuses once a flag differs.
 */
process.getBuiltinModule('node:http');
const calls = { maglev: 20_000, 'maglev-osr': 5_000, turbofan: 150_000, osr: 25_000, 'early-optimization': 1_500 };
for (const [compiler, count] of Object.entries(calls))
  setFlagsFromString(`--invocation-count-for-${compiler}=${count}`);
setFlagsFromString('--no-sparkplug');
setFlagsFromString('--no-parallel-scavenge');

keepCompiledCode();
void import('./meshctl-cli.ts');
