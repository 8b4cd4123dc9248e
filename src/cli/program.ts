import { Command, InvalidArgumentError, Option } from 'commander';
import { parseDuration } from '../manifest/duration.ts';
import { DEFAULT_HOST } from './api.ts';
import type { ApplyOptions } from './apply-result.ts';
import type { Context } from './context.ts';
import type { HistoryOptions } from './verbs/history.ts';
import type { NodeUpdateOptions } from './verbs/node-update.ts';
import type { ServiceUpdateOptions } from './verbs/service-update.ts';
import { VERSION } from './verbs/version.ts';

/** Runs one verb with the context of the global options; the verb returns the exit status. */
export type Run = (verb: (context: Context) => Promise<number>) => Promise<void>;

/** Every verb and option. Verbs are imported when they run, so that `meshctl --help` does not load gRPC, YAML and zod. */
export function buildProgram(
  run: Run,
  environment: Readonly<Record<string, string | undefined>>,
  prepare: (program: Command) => void,
): Command {
  const program = new Command('meshctl')
    .description('Manage services and nodes of a meshd cluster.')
    .option('--host <address>', 'unix socket of meshd', environment['MESHCTL_HOST'] || DEFAULT_HOST)
    .addOption(new Option('--format <format>', 'output format').choices(['table', 'json']).default('table'))
    .version(VERSION, '-v, --version', 'print the version of meshctl')
    .showSuggestionAfterError(true)
    .configureHelp({ showGlobalOptions: true });
  prepare(program);
  const example = (command: Command, ...lines: string[]): Command =>
    command.addHelpText(
      'after',
      `\n${lines.length === 1 ? 'Example' : 'Examples'}:\n${lines.map((line) => `  ${line}\n`).join('')}`,
    );
  example(program, 'meshctl apply service.yaml', 'meshctl service ls', 'meshctl service scale web=5');

  const quiet = ['-q, --quiet', 'print ids only'] as const;
  const pretty = ['--pretty', 'print text instead of JSON'] as const;
  const detach = ['-d, --detach', 'exit immediately instead of waiting for the tasks'] as const;
  const timeout = [
    '--timeout <duration>',
    'stop waiting after this time, such as 90s, with exit status 1',
    durationOption,
  ] as const;

  example(
    program
      .command('apply')
      .description('create or update all services of manifests in one transaction')
      .argument('<file...>', 'manifests; - reads standard input')
      .option('--dry-run', 'check the manifests and print the changes without making them')
      .option(...detach)
      .option(...timeout)
      .action((files: string[], options: ApplyOptions) =>
        run(async (context) => (await import('./verbs/apply.ts')).apply(context, files, options)),
      ),
    'meshctl apply service.yaml',
    'generate | meshctl apply --dry-run -',
  );
  example(
    program
      .command('config')
      .description('check manifests and print them in canonical form with all defaults')
      .argument('<file...>', 'manifests; - reads standard input')
      .action((files: string[]) => run(async (context) => (await import('./verbs/config.ts')).config(context, files))),
    'meshctl config service.yaml',
  );

  const service = example(program.command('service').description('manage services'), 'meshctl service ls');
  example(
    service
      .command('ls')
      .alias('list')
      .description('list services')
      .option(...quiet)
      .action((options) => run(async (context) => (await import('./verbs/service-ls.ts')).serviceLs(context, options))),
    'meshctl service ls --format json',
  );
  example(
    service
      .command('ps')
      .description('list the tasks of services, including ended ones')
      .argument('<service...>', 'names, ids or id prefixes')
      .option(...quiet)
      .action((names: string[], options) =>
        run(async (context) => (await import('./verbs/service-ps.ts')).servicePs(context, names, options)),
      ),
    'meshctl service ps web',
  );
  example(
    service
      .command('inspect')
      .description('show all details of services as JSON')
      .argument('<service...>', 'names, ids or id prefixes')
      .option(...pretty)
      .action((names: string[], options) =>
        run(async (context) => (await import('./verbs/service-inspect.ts')).serviceInspect(context, names, options)),
      ),
    'meshctl service inspect --pretty web',
    'meshctl service inspect web',
  );
  example(
    service
      .command('update')
      .description('change the ports or replicas of a service, or replace its tasks')
      .argument('<service>', 'name, id or id prefix')
      .option('--publish-add <port>', 'publish or change a port: 8080:80/udp, or target=80,… (repeatable)', several)
      .option('--publish-rm <port>', 'stop publishing this target port: 80, 53/udp (repeatable)', several)
      .option('--force', 'replace every task even if nothing changed')
      .option('--replicas <n>', 'number of replicas')
      .option(...detach)
      .option(...timeout)
      .action((name: string, options: ServiceUpdateOptions) =>
        run(async (context) => (await import('./verbs/service-update.ts')).serviceUpdate(context, name, options)),
      ),
    'meshctl service update --publish-add 8081:80 web',
    'meshctl service update --publish-add published=53,target=53,protocol=udp,mode=host dns',
    'meshctl service update --publish-rm 80 web',
    'meshctl service update --force web',
  );
  example(
    service
      .command('scale')
      .description('set the number of replicas of services')
      .argument('<service=n...>', 'service and number of replicas')
      .option(...detach)
      .option(...timeout)
      .action((words: string[], options: ApplyOptions) =>
        run(async (context) => (await import('./verbs/service-scale.ts')).serviceScale(context, words, options)),
      ),
    'meshctl service scale web=5 api=2',
  );
  example(
    service
      .command('rm')
      .alias('remove')
      .description('remove services with their tasks and ports')
      .argument('<service...>', 'names, ids or id prefixes')
      .action((names: string[]) =>
        run(async (context) => (await import('./verbs/service-rm.ts')).serviceRm(context, names)),
      ),
    'meshctl service rm web',
  );

  const port = example(program.command('port').description('list published ports'), 'meshctl port ls');
  example(
    port
      .command('ls')
      .alias('list')
      .description('list published ports and the nodes where they are degraded')
      .action(() => run(async (context) => (await import('./verbs/port-ls.ts')).portLs(context))),
    'meshctl port ls',
  );

  const node = example(program.command('node').description('manage nodes'), 'meshctl node ls');
  example(
    node
      .command('ls')
      .alias('list')
      .description('list nodes')
      .option(...quiet)
      .action((options) => run(async (context) => (await import('./verbs/node-ls.ts')).nodeLs(context, options))),
    'meshctl node ls',
  );
  example(
    node
      .command('inspect')
      .description('show all details of nodes as JSON')
      .argument('<node...>', 'names, ids or id prefixes; self is this node')
      .option(...pretty)
      .action((names: string[], options) =>
        run(async (context) => (await import('./verbs/node-inspect.ts')).nodeInspect(context, names, options)),
      ),
    'meshctl node inspect --pretty self',
    'meshctl node inspect self',
  );
  example(
    node
      .command('update')
      .description('change the labels or availability of a node')
      .argument('<node>', 'name, id or id prefix; self is this node')
      .option('--label-add <key=value>', 'add or change a label (repeatable)', several)
      .option('--label-rm <key>', 'remove a label (repeatable)', several)
      .addOption(
        new Option(
          '--availability <state>',
          'pause assigns no new tasks to the node, drain also moves its tasks away',
        ).choices(['active', 'pause', 'drain']),
      )
      .action((name: string, options: NodeUpdateOptions) =>
        run(async (context) => (await import('./verbs/node-update.ts')).nodeUpdate(context, name, options)),
      ),
    'meshctl node update --label-add zone=a node2',
    'meshctl node update --availability drain node3',
  );
  example(
    node
      .command('rm')
      .alias('remove')
      .description('remove nodes that are down from the cluster')
      .argument('<node...>', 'names, ids or id prefixes')
      .option('-f, --force', 'remove nodes that are not down')
      .action((names: string[], options) =>
        run(async (context) => (await import('./verbs/node-rm.ts')).nodeRm(context, names, options)),
      ),
    'meshctl node rm node3',
  );

  example(
    program
      .command('plan')
      .description('show the kernel operations of each node for manifests, or for the current desired state')
      .argument('[file...]', 'manifests; - reads standard input')
      .action((files: string[]) => run(async (context) => (await import('./verbs/plan.ts')).plan(context, files))),
    'meshctl plan service.yaml',
  );
  example(
    program
      .command('diff')
      .description('show the kernel operations that would repair a node')
      .argument('[node]', 'node; default: this node')
      .action((name?: string) => run(async (context) => (await import('./verbs/diff.ts')).diff(context, name))),
    'meshctl diff node2',
  );
  example(
    program
      .command('trace')
      .description('show the path of a packet, computed from the current kernel state of the nodes')
      .argument('<client>', 'address of the client, node, or localhost')
      .argument('<node:port>', 'destination: node1:8080, 192.0.2.1:53/udp')
      .action((client: string, target: string) =>
        run(async (context) => (await import('./verbs/trace.ts')).traceVerb(context, client, target)),
      ),
    'meshctl trace 198.51.100.7 node1:8080',
    'meshctl trace localhost node2:53/udp',
  );
  example(
    program
      .command('history')
      .description('list the kernel changes of nodes with time, reason and duration')
      .argument('[node...]', 'names, ids or id prefixes; self is this node; default: all nodes')
      .option('--since <duration>', 'only changes of this period, such as 10m', durationOption)
      .option('--service <name>', 'only changes for the ports and tasks of this service')
      .option('--limit <n>', 'only the newest n changes', countOption)
      .action((names: string[], options: HistoryOptions) =>
        run(async (context) => (await import('./verbs/history.ts')).history(context, names, options)),
      ),
    'meshctl history --since 10m',
    'meshctl history node2 --service web',
  );
  example(
    program
      .command('doctor')
      .description('check all nodes and print problems with their remedies')
      .argument('[node...]', 'nodes; self is this node; default: all nodes')
      .option('--verbose', 'also print successful checks')
      .action((names: string[], options) =>
        run(async (context) => (await import('./verbs/doctor.ts')).doctor(context, names, options)),
      ),
    'meshctl doctor',
    'meshctl doctor node2 --verbose',
  );
  example(
    program
      .command('status')
      .description('show the state of this node and its cluster')
      .action(() => run(async (context) => (await import('./verbs/status.ts')).status(context))),
    'meshctl status',
  );
  example(
    program
      .command('version')
      .description('show the versions of meshctl and meshd')
      .action(() => run(async (context) => (await import('./verbs/version.ts')).version(context))),
    'meshctl version',
  );
  example(
    program
      .command('completion')
      .description('print a completion script')
      .addArgument(program.createArgument('<shell>').choices(['bash', 'zsh', 'fish']))
      .action((shell: 'bash' | 'zsh' | 'fish') =>
        run(async ({ io }) => {
          const { completion } = await import('./verbs/completion.ts');
          io.raw(completion(program, shell));
          return 0;
        }),
      ),
    'source <(meshctl completion bash)',
    'meshctl completion fish > ~/.config/fish/completions/meshctl.fish',
  );
  return program;
}

function countOption(text: string): number {
  const count = Number(text);
  if (!/^\d+$/.test(text) || count < 1 || count > 10_000)
    throw new InvalidArgumentError('Use a number from 1 to 10000.');
  return count;
}

const several = (word: string, before: string[] = []): string[] => [...before, word];

function durationOption(text: string): number {
  const milliseconds = parseDuration(/^\d+$/.test(text) ? `${text}s` : text);
  if (milliseconds === undefined || milliseconds === 0 || milliseconds > 2 ** 31 - 1) {
    throw new InvalidArgumentError('Use a duration such as 90s or 5m.');
  }
  return milliseconds;
}
