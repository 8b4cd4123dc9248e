import { dirname, join } from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { FAST_PATH_MODES, type FastPathMode } from '../agent/node-capabilities.ts';
import type { Family } from '../model/address.ts';
import { parseHostPort } from '../model/host-port.ts';
import { isLabelKey } from '../model/label.ts';
import { LIMIT, NAME_PATTERN } from '../model/limits.ts';

/** Replaced by the bundler. */
declare const MESHD_VERSION: string;

export const VERSION = typeof MESHD_VERSION === 'undefined' ? '0.0.0-source' : MESHD_VERSION;

export interface DaemonOptions {
  roles: ('manager' | 'agent')[];
  /** Undefined: see node-name.ts. */
  name: string | undefined;
  advertise: string | undefined;
  /** Undefined: every address of the families this host is reached by. */
  listen: string | undefined;
  /** Undefined: no health endpoint. */
  healthListen: string | undefined;
  join: string[];
  stateDir: string;
  socket: string;
  /** Where a manager serves the agent of its own node. */
  agentSocket: string;
  labels: Record<string, string>;
  insecureDev: boolean;
  fastPath: FastPathMode;
  ingressSubnet: string | undefined;
  /** Of the cluster. Undefined: IPv4 for a new cluster, unchanged for an existing one. */
  families: Family[] | undefined;
  logLevel: string;
}

export interface ResetOptions {
  stateDir: string;
  force: boolean;
  purge: boolean;
  logLevel: string;
}

export type Invocation =
  | { verb: 'run'; options: DaemonOptions }
  | { verb: 'reset'; options: ResetOptions }
  /** Help, version or an error has been printed. */
  | { verb: 'exit'; status: number };

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error'];
const DEFAULT_STATE_DIR = '/var/lib/meshd';
/** Every address of both families. */
const DEFAULT_HEALTH_LISTEN = '[::]:2378';

/** Parses the command line. Prints help, version and usage errors itself; usage errors have exit status 2. */
export function parseMeshd(argv: readonly string[]): Invocation {
  let invocation: Invocation = { verb: 'exit', status: 0 };
  const program = new Command('meshd')
    .description('The daemon of a routing mesh: publishes every port of every service on every node.')
    .version(VERSION, '-v, --version', 'print the version of meshd')
    .configureOutput({ outputError: (text, write) => write(`meshd: ${text.replace(/^error: /, '')}`) })
    .option('--role <roles>', 'manager, agent, or both (default: manager,agent)', parseRoles)
    .option(
      '--name <name>',
      'name of this node (default: the one with which it joined, at first the host name)',
      parseName,
    )
    .option('--advertise <address>', 'address of this host to which other nodes send VXLAN')
    .option(
      '--listen <address:port>',
      'address on which a manager accepts agents of other hosts, with --insecure-dev (default: port 2377)',
      parseEndpoint,
    )
    .option(
      '--health-listen <where>',
      'address of the health endpoint for external load balancers, or off',
      parseHealthEndpoint,
      DEFAULT_HEALTH_LISTEN,
    )
    .option('--join <host:port,...>', 'managers that an agent connects to (default port: 2377)', parseEndpoints)
    .option('--state-dir <dir>', 'directory for persistent state', DEFAULT_STATE_DIR)
    .option('--socket <path>', 'unix socket for meshctl', '/run/meshd/meshd.sock')
    .option(
      '--agent-socket <path>',
      'unix socket of a manager for the agent of its host (default: agent.sock beside --socket)',
    )
    .option('--label <key=value>', 'label of this node (repeatable)', parseLabel)
    .option('--insecure-dev', 'accept agents of other hosts without authentication', false)
    .option('--ingress-subnet <cidr>', 'IPv4 subnet of the ingress network, set when the cluster is created')
    .option(
      '--families <families>',
      'ipv4, ipv6 or both, set when the cluster is created (default: ipv4)',
      parseFamilies,
    )
    .option('--ipv6', 'the same as --families ipv4,ipv6')
    .addOption(
      new Option(
        '--fast-path <mode>',
        'where BPF programs forward IPv4 packets past netfilter and routing (default: inside); see docs/data-path.md',
      ).choices(FAST_PATH_MODES),
    )
    // The name of --fast-path in 0.1; remove it after 0.2.
    .addOption(new Option('--shortcut <mode>').choices(FAST_PATH_MODES).hideHelp())
    .option('--log-level <level>', LOG_LEVELS.join(', '), parseLogLevel, 'info')
    .allowExcessArguments(false)
    .exitOverride()
    .action((flags) => {
      const { role = ['manager', 'agent'], join: managers = [], label: labels = {}, ...rest } = flags;
      if (!role.includes('manager') && managers.length === 0) {
        program.error('--role agent requires --join HOST:PORT of a manager');
      }
      if (role.includes('manager') && managers.length > 0) {
        program.error(
          '--join connects an agent to another manager: use it with --role agent (this version supports one manager)',
        );
      }
      const { name, advertise, ingressSubnet, listen, ipv6, families: requestedFamilies, shortcut, ...others } = rest;
      if (shortcut !== undefined) {
        if (rest.fastPath !== undefined)
          program.error('--shortcut is the old name of --fast-path: specify one of the two');
        process.stderr.write('meshd: warning: --shortcut is deprecated; use --fast-path\n');
      }
      if (ipv6 && requestedFamilies !== undefined && requestedFamilies.length < 2) {
        program.error('--ipv6 means --families ipv4,ipv6: specify one of the two');
      }
      const families: Family[] | undefined = ipv6 ? ['inet', 'inet6'] : requestedFamilies;
      if (ingressSubnet !== undefined && families !== undefined && !families.includes('inet')) {
        program.error('--ingress-subnet is an IPv4 subnet, but --families does not include ipv4');
      }
      const healthListen = rest.healthListen === 'off' ? undefined : rest.healthListen;
      const options = {
        ...others,
        name,
        advertise,
        ingressSubnet,
        listen,
        families,
        healthListen,
        fastPath: rest.fastPath ?? shortcut ?? 'inside',
        roles: role,
        join: managers,
        agentSocket: rest.agentSocket ?? join(dirname(rest.socket), 'agent.sock'),
        labels,
      };
      invocation = { verb: 'run', options };
    });
  program
    .command('reset')
    .description('remove everything meshd created on this host: tasks, namespaces, links, sets, firewall chains')
    .option('--state-dir <dir>', 'state directory of the daemon')
    .option('--force', 'kill tasks immediately, without their grace period', false)
    .option('--purge', 'also remove the state directory: identity, tasks and, on a manager, the whole cluster', false)
    .option('--log-level <level>', LOG_LEVELS.join(', '), parseLogLevel)
    .exitOverride()
    .action((flags) => {
      const parentOptions = program.opts();
      const options = {
        ...flags,
        stateDir: flags.stateDir ?? parentOptions.stateDir,
        logLevel: flags.logLevel ?? parentOptions.logLevel,
      };
      invocation = { verb: 'reset', options };
    });
  try {
    program.parse(argv, { from: 'user' });
  } catch (thrown) {
    if (!(thrown instanceof CommanderError)) throw thrown;
    return { verb: 'exit', status: thrown.exitCode === 0 ? 0 : 2 };
  }
  return invocation;
}

function parseRoles(value: string): string[] {
  const given = [...new Set(value.split(',').map((word) => word.trim()))];
  if (given.some((role) => role !== 'manager' && role !== 'agent')) {
    throw new InvalidArgumentError('Use manager, agent or manager,agent.');
  }
  return given;
}

/** Families in a fixed order, independent of the order given. */
function parseFamilies(value: string): Family[] {
  const given = new Set(value.split(',').map((word) => word.trim()));
  const known = { ipv4: 'inet', ipv6: 'inet6' } as const;
  if ([...given].some((word) => !Object.hasOwn(known, word))) {
    throw new InvalidArgumentError('Use ipv4, ipv6 or ipv4,ipv6.');
  }
  return (['ipv4', 'ipv6'] as const).filter((word) => given.has(word)).map((word) => known[word]);
}

function parseName(value: string): string {
  if (value.length > LIMIT.name || !NAME_PATTERN.test(value)) {
    throw new InvalidArgumentError(`Letters, digits, "_", "." and "-", at most ${LIMIT.name}.`);
  }
  return value;
}

function parseEndpoint(value: string): string {
  if (parseHostPort(value) === undefined)
    throw new InvalidArgumentError('Use HOST:PORT, with an IPv6 address in brackets.');
  return value;
}

function parseHealthEndpoint(value: string): string {
  return value === 'off' ? value : parseEndpoint(value);
}

/** The port of a manager defaults to 2377. */
function parseEndpoints(value: string, before: string[] = []): string[] {
  const hosts = value.split(',').map((one) => one.trim());
  return [...before, ...hosts.map((one) => parseEndpoint(/^(\[[^\]]*\]|[^:\s/]+)$/.test(one) ? `${one}:2377` : one))];
}

/** Accepts the same keys as src/rpc/check-values.ts, including `example.com/zone`. */
function parseLabel(value: string, before: Record<string, string> = {}): Record<string, string> {
  const [key = '', ...rest] = value.split('=');
  const text = rest.join('=');
  if (!isLabelKey(key) || rest.length === 0 || text.length > LIMIT.value) {
    throw new InvalidArgumentError('Use KEY=VALUE.');
  }
  return { ...before, [key]: text };
}

function parseLogLevel(value: string): string {
  if (!LOG_LEVELS.includes(value)) throw new InvalidArgumentError(`One of ${LOG_LEVELS.join(', ')}.`);
  return value;
}
