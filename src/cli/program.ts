import { Command, InvalidArgumentError, Option } from 'commander';
import { parseDuration } from '../manifest/duration.ts';
import { DEFAULT_HOST } from './api.ts';
import type { ApplyOptions } from './apply-result.ts';
import type { Context } from './context.ts';
import { apply } from './verbs/apply.ts';
import { completion } from './verbs/completion.ts';
import { config } from './verbs/config.ts';
import { diff } from './verbs/diff.ts';
import { doctor } from './verbs/doctor.ts';
import { type HistoryOptions, history } from './verbs/history.ts';
import { nodeInspect } from './verbs/node-inspect.ts';
import { nodeLs } from './verbs/node-ls.ts';
import { nodeRm } from './verbs/node-rm.ts';
import { type NodeUpdateOptions, nodeUpdate } from './verbs/node-update.ts';
import { plan } from './verbs/plan.ts';
import { portLs } from './verbs/port-ls.ts';
import { serviceInspect } from './verbs/service-inspect.ts';
import { serviceLs } from './verbs/service-ls.ts';
import { servicePs } from './verbs/service-ps.ts';
import { serviceRm } from './verbs/service-rm.ts';
import { serviceScale } from './verbs/service-scale.ts';
import { type ServiceUpdateOptions, serviceUpdate } from './verbs/service-update.ts';
import { status } from './verbs/status.ts';
import { traceVerb } from './verbs/trace.ts';
import { VERSION, version } from './verbs/version.ts';

/** Runs one verb with the context of the global options; the verb returns the exit status. */
export type Run = (verb: (context: Context) => Promise<number>) => Promise<void>;

/** Every verb and option. YAML, zod and the client of meshd are imported when a verb needs them. */
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
      .action((files: string[], options: ApplyOptions) => run((context) => apply(context, files, options))),
    'meshctl apply service.yaml',
    'generate | meshctl apply --dry-run -',
  );
  example(
    program
      .command('config')
      .description('check manifests and print them in canonical form with all defaults')
      .argument('<file...>', 'manifests; - reads standard input')
      .action((files: string[]) => run((context) => config(context, files))),
    'meshctl config service.yaml',
  );

  const service = example(program.command('service').description('manage services'), 'meshctl service ls');
  example(
    service
      .command('ls')
      .alias('list')
      .description('list services')
      .option(...quiet)
      .action((options) => run((context) => serviceLs(context, options))),
    'meshctl service ls --format json',
  );
  example(
    service
      .command('ps')
      .description('list the tasks of services, including ended ones')
      .argument('<service...>', 'names, ids or id prefixes')
      .option(...quiet)
      .action((names: string[], options) => run((context) => servicePs(context, names, options))),
    'meshctl service ps web',
  );
  example(
    service
      .command('inspect')
      .description('show all details of services as JSON')
      .argument('<service...>', 'names, ids or id prefixes')
      .option(...pretty)
      .action((names: string[], options) => run((context) => serviceInspect(context, names, options))),
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
      .action((name: string, options: ServiceUpdateOptions) => run((context) => serviceUpdate(context, name, options))),
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
      .action((words: string[], options: ApplyOptions) => run((context) => serviceScale(context, words, options))),
    'meshctl service scale web=5 api=2',
  );
  example(
    service
      .command('rm')
      .alias('remove')
      .description('remove services with their tasks and ports')
      .argument('<service...>', 'names, ids or id prefixes')
      .action((names: string[]) => run((context) => serviceRm(context, names))),
    'meshctl service rm web',
  );

  const port = example(program.command('port').description('list published ports'), 'meshctl port ls');
  example(
    port
      .command('ls')
      .alias('list')
      .description('list published ports and the nodes where they are degraded')
      .action(() => run((context) => portLs(context))),
    'meshctl port ls',
  );

  const node = example(program.command('node').description('manage nodes'), 'meshctl node ls');
  example(
    node
      .command('ls')
      .alias('list')
      .description('list nodes')
      .option(...quiet)
      .action((options) => run((context) => nodeLs(context, options))),
    'meshctl node ls',
  );
  example(
    node
      .command('inspect')
      .description('show all details of nodes as JSON')
      .argument('<node...>', 'names, ids or id prefixes; self is this node')
      .option(...pretty)
      .action((names: string[], options) => run((context) => nodeInspect(context, names, options))),
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
      .action((name: string, options: NodeUpdateOptions) => run((context) => nodeUpdate(context, name, options))),
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
      .action((names: string[], options) => run((context) => nodeRm(context, names, options))),
    'meshctl node rm node3',
  );

  example(
    program
      .command('plan')
      .description('show the kernel operations of each node for manifests, or for the current desired state')
      .argument('[file...]', 'manifests; - reads standard input')
      .action((files: string[]) => run((context) => plan(context, files))),
    'meshctl plan service.yaml',
  );
  example(
    program
      .command('diff')
      .description('show the kernel operations that would repair a node')
      .argument('[node]', 'node; default: this node')
      .action((name?: string) => run((context) => diff(context, name))),
    'meshctl diff node2',
  );
  example(
    program
      .command('trace')
      .description('show the path of a packet, computed from the current kernel state of the nodes')
      .argument('<client>', 'address of the client, node, or localhost')
      .argument('<node:port>', 'destination: node1:8080, 192.0.2.1:53/udp')
      .action((client: string, target: string) => run((context) => traceVerb(context, client, target))),
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
      .action((names: string[], options: HistoryOptions) => run((context) => history(context, names, options))),
    'meshctl history --since 10m',
    'meshctl history node2 --service web',
  );
  example(
    program
      .command('doctor')
      .description('check all nodes and print problems with their remedies')
      .argument('[node...]', 'nodes; self is this node; default: all nodes')
      .option('--verbose', 'also print successful checks')
      .action((names: string[], options) => run((context) => doctor(context, names, options))),
    'meshctl doctor',
    'meshctl doctor node2 --verbose',
  );
  example(
    program
      .command('status')
      .description('show the state of this node and its cluster')
      .action(() => run((context) => status(context))),
    'meshctl status',
  );
  example(
    program
      .command('version')
      .description('show the versions of meshctl and meshd')
      .action(() => run((context) => version(context))),
    'meshctl version',
  );
  example(
    program
      .command('completion')
      .description('print a completion script')
      .addArgument(program.createArgument('<shell>').choices(['bash', 'zsh', 'fish']))
      .action((shell: 'bash' | 'zsh' | 'fish') =>
        run(async ({ io }) => {
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
