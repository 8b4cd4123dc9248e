import { type Command, CommanderError } from 'commander';
import pc from 'picocolors';
import { MeshError } from '../base/errors.ts';
import { printable } from '../base/printable.ts';
import { type Api, connect } from './api.ts';
import { type Context, type Format, UsageError } from './context.ts';
import { type Io, printableIo } from './io.ts';
import { buildProgram } from './program.ts';

/** Runs meshctl with the arguments after its name. Exit status: 0 success, 1 failure, 2 invalid arguments. */
export async function runMeshctl(args: readonly string[], io: Io): Promise<number> {
  let status = 0;
  let connection: Promise<Api> | undefined;
  const colours = pc.createColors(io.colour);
  const printError = (text: string) => io.err(`${colours.red('meshctl:')} ${text}\n`);

  const program = buildProgram(
    async (verb) => {
      const { host, format } = program.opts<{ host: string; format: Format }>();
      const explicitFormat = program.getOptionValueSource('format') === 'cli' ? format : undefined;
      const context: Context = {
        io: printableIo(io),
        format,
        explicitFormat,
        api() {
          connection ??= connect(host);
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
          const unknownCommand = /^unknown command '([^']+)'$/.exec(first)?.[1];
          // A verb that `apply` replaces gets that hint instead of a similarly spelled verb.
          const replacedByManifest = unknownCommand !== undefined && MANIFEST_VERBS.includes(unknownCommand);
          const suggestion =
            unknownCommand === undefined || (rest.length > 0 && !replacedByManifest)
              ? ''
              : suggestCommands(program, unknownCommand);
          printError((replacedByManifest ? first : [first, ...rest].join(' ')) + suggestion);
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
    } else await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) status = error.exitCode === 0 ? 0 : 2;
    else if (error instanceof UsageError) {
      printError(printable(error.message));
      status = 2;
    } else if (error instanceof MeshError) {
      for (const line of error.message.split('\n')) printError(printable(line));
      status = 1;
    } else {
      // The stack is what a bug report needs.
      printError(
        `unexpected internal error; please report this: ${error instanceof Error ? error.stack : String(error)}`,
      );
      status = 1;
    }
  }
  io.exitIfFlushed?.(status);
  await connection?.then(
    (api) => api.close(),
    () => undefined,
  );
  return status;
}

/** Docker verbs that `meshctl apply` replaces. */
const MANIFEST_VERBS = ['create', 'update', 'deploy', 'stack', 'up', 'rollback'];

/** Suggests the group of a verb given without one: `meshctl ps` → `meshctl service ps`. */
function suggestCommands(program: Command, verb: string): string {
  const suggestions = program.commands.flatMap((group) =>
    group.commands
      .filter((command) => command.name() === verb || command.aliases().includes(verb))
      .map((command) => `\`meshctl ${group.name()} ${command.name()}\``),
  );
  if (MANIFEST_VERBS.includes(verb)) suggestions.unshift('`meshctl apply FILE`');
  return suggestions.length === 0 ? '' : ` (Did you mean ${suggestions.join(' or ')}?)`;
}
