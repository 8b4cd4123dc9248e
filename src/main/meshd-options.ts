import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { FAST_PATH_MODES, type FastPathMode } from '../agent/node-capabilities.ts';
import type { Family } from '../model/address.ts';
import { parseHostPort } from '../model/host-port.ts';
import { isLabelKey } from '../model/label.ts';
import { LIMIT, NAME_PATTERN } from '../model/limits.ts';

/** Put in by the bundler. */
declare const MESHD_VERSION: string;

export const VERSION = typeof MESHD_VERSION === 'undefined' ? '0.0.0-source' : MESHD_VERSION;

export interface DaemonOptions {
  roles: ('manager' | 'agent')[];
  name: string;
  advertise: string | undefined;
  /** Undefined: every address of the families this machine is reached by. */
  listen: string | undefined;
  /** Undefined for nowhere. */
  healthListen: string | undefined;
  join: string[];
  stateDir: string;
  socket: string;
  /** Where a manager serves the agent of its own node. */
  agentSocket: string;
  labels: Record<string, string>;
  insecureDev: boolean;
  shortcut: FastPathMode;
  ingressSubnet: string | undefined;
  /** Of the cluster; undefined: IPv4 in a new cluster, whatever it has in an old one. */
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
  /** Everything is said already. */
  | { verb: 'exit'; status: number };

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error'];
const DEFAULT_STATE_DIR = '/var/lib/meshd';
/** Every address of both families. */
const DEFAULT_HEALTH_LISTEN = '[::]:2378';

/** What the command line asks for; help, version and mistakes are told here (exit status 2 for the latter). */
export function parseMeshd(argv: readonly string[]): Invocation {
  let invocation: Invocation = { verb: 'exit', status: 0 };
  const program = new Command('meshd')
    .description('The daemon of a routing mesh: declare services once, reach every published port on every node.')
    .version(VERSION, '-v, --version', 'print the version of meshd')
    .configureOutput({ outputError: (text, write) => write(`meshd: ${text.replace(/^error: /, '')}`) })
    .option('--role <roles>', 'manager, agent, or both (default: manager,agent)', parseRoles)
    .option('--name <name>', 'name of this node', parseName, hostname().split('.')[0])
    .option('--advertise <address>', 'address of this machine that other nodes send VXLAN to')
    .option(
      '--listen <address:port>',
      'where a manager accepts agents of other nodes, with --insecure-dev (default: port 2377)',
      parseEndpoint,
    )
    .option(
      '--health-listen <where>',
      'address:port where balancers ask an agent for its ports, or off',
      parseHealthEndpoint,
      DEFAULT_HEALTH_LISTEN,
    )
    .option('--join <host:port,...>', 'managers an agent connects to; port 2377 when left out', parseEndpoints)
    .option('--state-dir <dir>', 'what must survive a restart', DEFAULT_STATE_DIR)
    .option('--socket <path>', 'unix socket for meshctl', '/run/meshd/meshd.sock')
    .option(
      '--agent-socket <path>',
      'unix socket of a manager for the agent of its node (default: agent.sock beside it)',
    )
    .option('--label <key=value>', 'label of this node; may be repeated', parseLabel)
    .option('--insecure-dev', 'let agents of other machines in without any proof of who they are', false)
    .option('--ingress-subnet <cidr>', 'IPv4 network of the ingress mesh, when a cluster is made')
    .option('--families <families>', 'ipv4, ipv6 or both, when a cluster is made (default: ipv4)', parseFamilies)
    .option('--ipv6', 'the same as --families ipv4,ipv6')
    .addOption(
      new Option(
        '--shortcut <how>',
        'BPF programs that carry IPv4 packets past netfilter and routing: docs/data-path.md',
      )
        .choices(FAST_PATH_MODES)
        .default('inside'),
    )
    .option('--log-level <level>', LOG_LEVELS.join(', '), parseLogLevel, 'info')
    .allowExcessArguments(false)
    .exitOverride()
    .action((flags) => {
      const { role = ['manager', 'agent'], join: managers = [], label: labels = {}, ...rest } = flags;
      if (!role.includes('manager') && managers.length === 0) {
        program.error('--role agent needs --join HOST:PORT of a manager');
      }
      if (role.includes('manager') && managers.length > 0) {
        program.error('--join connects an agent to another manager: say --role agent (this version has one manager)');
      }
      const { advertise, ingressSubnet, listen, ipv6, families: requestedFamilies, ...others } = rest;
      if (ipv6 && requestedFamilies !== undefined && requestedFamilies.length < 2) {
        program.error('--ipv6 means --families ipv4,ipv6: give one of the two');
      }
      const families: Family[] | undefined = ipv6 ? ['inet', 'inet6'] : requestedFamilies;
      if (ingressSubnet !== undefined && families !== undefined && !families.includes('inet')) {
        program.error('--ingress-subnet is the IPv4 network of the mesh, and --families leaves IPv4 out');
      }
      const healthListen = rest.healthListen === 'off' ? undefined : rest.healthListen;
      const options = {
        ...others,
        advertise,
        ingressSubnet,
        listen,
        families,
        healthListen,
        roles: role,
        join: managers,
        agentSocket: rest.agentSocket ?? join(dirname(rest.socket), 'agent.sock'),
        labels,
      };
      invocation = { verb: 'run', options };
    });
  program
    .command('reset')
    .description('take everything of meshd off this host: tasks, namespaces, links, sets, firewall chains')
    .option('--state-dir <dir>', 'as given to the daemon')
    .option('--force', 'kill tasks at once instead of after their grace period', false)
    .option('--purge', 'remove the state directory too: identity, tasks, and a manager’s whole cluster', false)
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
    throw new InvalidArgumentError('Say manager, agent or manager,agent.');
  }
  return given;
}

/** In one order, whatever was typed. */
function parseFamilies(value: string): Family[] {
  const given = new Set(value.split(',').map((word) => word.trim()));
  const known = { ipv4: 'inet', ipv6: 'inet6' } as const;
  if ([...given].some((word) => !Object.hasOwn(known, word))) {
    throw new InvalidArgumentError('Say ipv4, ipv6 or ipv4,ipv6.');
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
  if (parseHostPort(value) === undefined) throw new InvalidArgumentError('Say HOST:PORT, an IPv6 address in brackets.');
  return value;
}

function parseHealthEndpoint(value: string): string {
  return value === 'off' ? value : parseEndpoint(value);
}

/** A manager listens on 2377 unless it was told otherwise. */
function parseEndpoints(value: string, before: string[] = []): string[] {
  const hosts = value.split(',').map((one) => one.trim());
  return [...before, ...hosts.map((one) => parseEndpoint(/^(\[[^\]]*\]|[^:\s/]+)$/.test(one) ? `${one}:2377` : one))];
}

/** Keys as src/rpc/check-values.ts accepts them, `example.com/zone` among them. */
function parseLabel(value: string, before: Record<string, string> = {}): Record<string, string> {
  const [key = '', ...rest] = value.split('=');
  const text = rest.join('=');
  if (!isLabelKey(key) || rest.length === 0 || text.length > LIMIT.value) {
    throw new InvalidArgumentError('Say KEY=VALUE.');
  }
  return { ...before, [key]: text };
}

function parseLogLevel(value: string): string {
  if (!LOG_LEVELS.includes(value)) throw new InvalidArgumentError(`One of ${LOG_LEVELS.join(', ')}.`);
  return value;
}
