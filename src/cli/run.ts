import { CommanderError } from 'commander';
import pc from 'picocolors';
import { MeshError } from '../base/errors.ts';
import type { Api } from './api.ts';
import { type Context, type Format, UsageError } from './context.ts';
import type { Io } from './io.ts';
import { buildProgram } from './program.ts';
import { clean } from './table.ts';

/** Runs meshctl with the arguments after its name. Exit status: 0 done, 1 failed, 2 the arguments make no sense. */
export async function runMeshctl(args: readonly string[], io: Io): Promise<number> {
  let status = 0;
  let connection: Promise<Api> | undefined;
  const colours = pc.createColors(io.colour);
  const complain = (text: string) => io.err(`${colours.red('meshctl:')} ${text}\n`);

  const program = buildProgram(
    async (verb) => {
      const { host, format } = program.opts<{ host: string; format: Format }>();
      const context: Context = {
        io,
        format,
        api() {
          connection ??= import('./api.ts').then(({ connect }) => connect(host));
          return connection;
        },
      };
      status = await verb(context);
    },
    io.environment,
    (command) =>
      command.exitOverride().configureOutput({
        writeOut: (text) => io.out(text),
        writeErr: (text) => io.err(text),
        outputError: (text) => {
          const [first = '', ...rest] = text
            .trim()
            .replace(/^error: /, '')
            .split('\n');
          complain([first, ...rest].join(' '));
          io.err('See `meshctl --help`.\n');
        },
        getOutHelpWidth: () => Math.min(io.columns, 110),
        getErrHelpWidth: () => Math.min(io.columns, 110),
        getOutHasColors: () => io.colour,
        getErrHasColors: () => io.colour,
      }),
  );

  try {
    if (args.length === 0) {
      program.outputHelp();
      return 0;
    }
    await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) status = error.exitCode === 0 ? 0 : 2;
    else if (error instanceof UsageError) {
      complain(clean(error.message));
      status = 2;
    } else if (error instanceof MeshError) {
      for (const line of error.message.split('\n')) complain(clean(line));
      status = 1;
    } else {
      // A mistake of ours: the stack is what a bug report needs.
      complain(`internal error: ${error instanceof Error ? error.stack : String(error)}`);
      status = 1;
    }
  } finally {
    await connection?.then(
      (api) => api.close(),
      () => undefined,
    );
  }
  return status;
}
