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

/** Runs one verb with a context made of the global options; what it returns is the exit status. */
export type Run = (verb: (context: Context) => Promise<number>) => Promise<void>;

/** Every verb and option. What reads manifests (YAML, zod) and what talks to meshd is imported by those that need it. */
export function buildProgram(
  run: Run,
  environment: Readonly<Record<string, string | undefined>>,
  prepare: (program: Command) => void,
): Command {
  const program = new Command('meshctl')
    .description('Talks to meshd: declares services, and shows what became of them.')
    .option('--host <address>', 'socket of meshd', environment['MESHCTL_HOST'] || DEFAULT_HOST)
    .addOption(new Option('--format <format>', 'how listings are printed').choices(['table', 'json']).default('table'))
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
  const pretty = ['--pretty', 'something to read instead of JSON'] as const;
  const detach = ['-d, --detach', 'return at once, do not wait for the tasks'] as const;
  const timeout = [
    '--timeout <duration>',
    'give up waiting after this long, such as 90s: exit status 1',
    durationOption,
  ] as const;

  example(
    program
      .command('apply')
      .description('create or update the services of manifests: all of them, or none')
      .argument('<file...>', 'manifests; - is standard input')
      .option('--dry-run', 'check and tell what would change, change nothing')
      .option(...detach)
      .option(...timeout)
      .action((files: string[], options: ApplyOptions) => run((context) => apply(context, files, options))),
    'meshctl apply service.yaml',
    'generate | meshctl apply --dry-run -',
  );
  example(
    program
      .command('config')
      .description('print manifests in canonical form, every default written out')
      .argument('<file...>', 'manifests; - is standard input')
      .action((files: string[]) => run((context) => config(context, files))),
    'meshctl config service.yaml',
  );

  const service = example(
    program.command('service').description('list, look at, update, scale and remove services'),
    'meshctl service ls',
  );
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
      .description('list the tasks of services, with those that ended')
      .argument('<service...>', 'names, ids or starts of ids')
      .option(...quiet)
      .action((names: string[], options) => run((context) => servicePs(context, names, options))),
    'meshctl service ps web',
  );
  example(
    service
      .command('inspect')
      .description('show services in full, as JSON')
      .argument('<service...>', 'names, ids or starts of ids')
      .option(...pretty)
      .action((names: string[], options) => run((context) => serviceInspect(context, names, options))),
    'meshctl service inspect --pretty web',
    'meshctl service inspect web',
  );
  example(
    service
      .command('update')
      .description('change ports or the number of tasks of a service, or replace its tasks')
      .argument('<service>', 'name, id or start of an id')
      .option(
        '--publish-add <port>',
        'publish a port, or change one: 8080:80/udp, or target=80,… (repeatable)',
        several,
      )
      .option('--publish-rm <port>', 'no longer publish this port of the tasks: 80, 53/udp (repeatable)', several)
      .option('--force', 'replace every task, though nothing about them changed')
      .option('--replicas <n>', 'number of tasks')
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
      .description('change the number of tasks of replicated services')
      .argument('<service=n...>', 'service and number of tasks')
      .option(...detach)
      .option(...timeout)
      .action((words: string[], options: ApplyOptions) => run((context) => serviceScale(context, words, options))),
    'meshctl service scale web=5 api=2',
  );
  example(
    service
      .command('rm')
      .alias('remove')
      .description('remove services, their tasks and their ports')
      .argument('<service...>', 'names, ids or starts of ids')
      .action((names: string[]) => run((context) => serviceRm(context, names))),
    'meshctl service rm web',
  );

  const port = example(program.command('port').description('list published ports'), 'meshctl port ls');
  example(
    port
      .command('ls')
      .alias('list')
      .description('every published port, its service, and the nodes where it is not as declared')
      .action(() => run((context) => portLs(context))),
    'meshctl port ls',
  );

  const node = example(
    program.command('node').description('list, look at, change and remove nodes'),
    'meshctl node ls',
  );
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
      .description('show nodes in full, as JSON')
      .argument('<node...>', 'names, ids or starts of ids; self is this one')
      .option(...pretty)
      .action((names: string[], options) => run((context) => nodeInspect(context, names, options))),
    'meshctl node inspect --pretty self',
    'meshctl node inspect self',
  );
  example(
    node
      .command('update')
      .description('change labels and availability of a node')
      .argument('<node>', 'name, id or start of an id; self is this one')
      .option('--label-add <key=value>', 'add or change a label (repeatable)', several)
      .option('--label-rm <key>', 'remove a label (repeatable)', several)
      .addOption(
        new Option('--availability <what>', 'pause takes no new tasks, drain also gives its tasks away').choices([
          'active',
          'pause',
          'drain',
        ]),
      )
      .action((name: string, options: NodeUpdateOptions) => run((context) => nodeUpdate(context, name, options))),
    'meshctl node update --label-add zone=a node2',
    'meshctl node update --availability drain node3',
  );
  example(
    node
      .command('rm')
      .alias('remove')
      .description('forget nodes that are down')
      .argument('<node...>', 'names, ids or starts of ids')
      .option('-f, --force', 'also when the node is not down')
      .action((names: string[], options) => run((context) => nodeRm(context, names, options))),
    'meshctl node rm node3',
  );

  example(
    program
      .command('plan')
      .description('what the kernel of each node would go through, for manifests or for what is declared now')
      .argument('[file...]', 'manifests; - is standard input')
      .action((files: string[]) => run((context) => plan(context, files))),
    'meshctl plan service.yaml',
  );
  example(
    program
      .command('diff')
      .description('what is declared against what the kernel of a node has now')
      .argument('[node]', 'this node when left out')
      .action((name?: string) => run((context) => diff(context, name))),
    'meshctl diff node2',
  );
  example(
    program
      .command('trace')
      .description('what becomes of a packet, hop by hop, as the kernels of the nodes are now')
      .argument('<client>', 'address of the client, a node, or localhost')
      .argument('<node:port>', 'where it sends to: node1:8080, 192.0.2.1:53/udp')
      .action((client: string, target: string) => run((context) => traceVerb(context, client, target))),
    'meshctl trace 198.51.100.7 node1:8080',
    'meshctl trace localhost node2:53/udp',
  );
  example(
    program
      .command('history')
      .description('what was changed in the kernel of nodes, when, why, and how long it took')
      .argument('[node...]', 'names, ids or starts of ids; all nodes when left out, self is this one')
      .option('--since <duration>', 'not older than this, such as 10m', durationOption)
      .option('--service <name>', 'only changes about the ports and tasks of this service')
      .option('--limit <n>', 'the newest so many', countOption)
      .action((names: string[], options: HistoryOptions) => run((context) => history(context, names, options))),
    'meshctl history --since 10m',
    'meshctl history node2 --service web',
  );
  example(
    program
      .command('doctor')
      .description('look for what keeps nodes from their work, each finding with its remedy')
      .argument('[node...]', 'all nodes when left out; self is this one')
      .option('--verbose', 'also what is well')
      .action((names: string[], options) => run((context) => doctor(context, names, options))),
    'meshctl doctor',
    'meshctl doctor node2 --verbose',
  );
  example(
    program
      .command('status')
      .description('how this meshd and its cluster are')
      .action(() => run((context) => status(context))),
    'meshctl status',
  );
  example(
    program
      .command('version')
      .description('versions of meshctl and of the meshd it talks to')
      .action(() => run((context) => version(context))),
    'meshctl version',
  );
  example(
    program
      .command('completion')
      .description('print a completion script for a shell')
      .addArgument(program.createArgument('<shell>').choices(['bash', 'zsh', 'fish']))
      .action((shell: 'bash' | 'zsh' | 'fish') =>
        run(async ({ io }) => {
          io.out(completion(program, shell));
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
    throw new InvalidArgumentError('Write a number from 1 to 10000.');
  return count;
}

const several = (word: string, before: string[] = []): string[] => [...before, word];

function durationOption(text: string): number {
  const milliseconds = parseDuration(/^\d+$/.test(text) ? `${text}s` : text);
  if (milliseconds === undefined || milliseconds === 0 || milliseconds > 2 ** 31 - 1) {
    throw new InvalidArgumentError('Write a duration such as 90s or 5m.');
  }
  return milliseconds;
}
