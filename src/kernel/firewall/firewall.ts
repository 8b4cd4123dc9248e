import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { inNetns, type ProcessEnd, type SpawnedProcess, spawnProcess } from '../../../native/index.ts';
import { MeshError, messageOf } from '../../base/errors.ts';
import type { Family } from '../../model/address.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { type Failure, toFailure } from '../driver/failure.ts';
import type { Namespaces } from '../driver/namespaces.ts';
import { NETLINK_NETFILTER, type Transport } from '../driver/transport.ts';
import { type FirewallOp, type FirewallRules, formatIptablesRestore, parseIptablesSave } from './firewall-text.ts';
import { hashLegacyTables } from './legacy-tables.ts';
import { decodeGeneration, getGeneration } from './nf-tables.ts';

/** The iptables backend: text in and out of the installed iptables, be it the nft or the legacy one. */
export interface Firewall {
  read(netns: string, family: Family): Promise<FirewallRules>;
  /**
   * Executes the operations of one netns, one run of iptables-restore per family; when that run fails, one run per
   * operation, so that the valid ones take effect. One outcome per operation, in order: undefined when done.
   */
  apply(netns: string, ops: readonly FirewallOp[], meter: FirewallMeter): Promise<(Failure | undefined)[]>;
  /** Whether a process was a recent iptables-restore of ours. */
  isOwnProcess(pid: number): boolean;
}

export interface FirewallMeter {
  firewallRuns: number;
}

/** Their events arrive within milliseconds. */
const MAX_RECENT_PIDS = 64;
/** Of one run, ms: it may have to wait for the xtables lock. */
const COMMAND_TIMEOUT = 120_000;
/** What kube-proxy writes on a big node is some tens of megabytes. */
const MAX_OUTPUT = 256 * 1024 * 1024;
const ENVIRONMENT = { PATH: '/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin', LC_ALL: 'C' };

/** Runs iptables-save and iptables-restore in namespaces; needs no close. */
export function openFirewall(namespaces: Namespaces, transport: Transport, total: FirewallMeter): Firewall {
  const recent: number[] = [];
  const recordPid = (pid: number) => {
    recent.push(pid);
    if (recent.length > MAX_RECENT_PIDS) recent.shift();
  };

  /** What was read last, by netns and family, and the state it was read at. */
  const cache = new Map<string, { stamp: string; text: FirewallRules }>();
  let backend: Promise<'nft' | 'legacy'> | undefined;

  async function read(netns: string, family: Family): Promise<FirewallRules> {
    // A kernel booted with ipv6.disable=1 has nothing to filter, and ip6tables fails on it.
    if (family === 'inet6' && !existsSync('/proc/net/if_inet6')) return new Map();
    const path = namespaces.path(netns);
    backend ??= runInNetns(path, 'iptables', ['-V'], '').then((text) =>
      text.includes('nf_tables') ? 'nft' : 'legacy',
    );
    const stamp = (await backend) === 'nft' ? await readStamp(netns) : hashLegacyTables(path, family);
    const cached = cache.get(`${netns} ${family}`);
    if (stamp !== undefined && cached?.stamp === stamp) return cached.text;
    const text = parseIptablesSave(await runInNetns(path, commandName(family, 'save'), [], ''));
    if (stamp !== undefined) cache.set(`${netns} ${family}`, { stamp, text });
    return text;
  }

  /** Changes with every change of the rules in a netns; undefined when the kernel does not support it. */
  async function readStamp(netns: string): Promise<string | undefined> {
    const serial = transport.channelSerial(netns, NETLINK_NETFILTER);
    const [outcome] = await transport.transact(netns, NETLINK_NETFILTER, [getGeneration()]);
    const [generation] = outcome?.ok ? decodeAll(outcome.replies, decodeGeneration) : [];
    return generation === undefined ? undefined : `${serial} ${generation}`;
  }

  async function restore(
    netns: string,
    family: Family,
    ops: readonly FirewallOp[],
    meter: FirewallMeter,
  ): Promise<void> {
    const have = ops.some((op) => op.object.kind === 'jump') ? await read(netns, family) : new Map();
    total.firewallRuns += 1;
    meter.firewallRuns += 1;
    await runInNetns(
      namespaces.path(netns),
      commandName(family, 'restore'),
      ['--noflush', '-w'],
      formatIptablesRestore(ops, have),
      recordPid,
    );
  }

  return {
    read,
    isOwnProcess: (pid) => recent.includes(pid),
    async apply(netns, ops, meter) {
      const outcomes = new Map<FirewallOp, Failure>();
      for (const family of ['inet', 'inet6'] as const) {
        const here = ops.filter((op) => op.object.family === family);
        if (here.length === 0) continue;
        try {
          await restore(netns, family, here, meter);
        } catch (together) {
          for (const op of here) {
            try {
              if (here.length === 1) throw together;
              await restore(netns, family, [op], meter);
            } catch (thrown) {
              outcomes.set(op, toFailure(thrown));
            }
          }
        }
      }
      return ops.map((op) => outcomes.get(op));
    },
  };
}

function commandName(family: Family, action: 'save' | 'restore'): string {
  return `${family === 'inet' ? 'iptables' : 'ip6tables'}-${action}`;
}

/** Runs a command in a netns with `input` on its standard input; returns its output, or throws with its error output. */
export function runInNetns(
  netnsPath: string,
  command: string,
  args: readonly string[],
  input: string,
  onStart: (pid: number) => void = () => undefined,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const output: Buffer[] = [];
    let length = 0;
    let stderrText = '';
    let end: ProcessEnd | undefined;
    let open = 2;
    let child: SpawnedProcess;

    const finish = () => {
      // Its output may arrive after its end.
      if (end === undefined || open > 0) return;
      clearTimeout(timer);
      if (end.code === 0) return resolve(Buffer.concat(output).toString('utf8'));
      const exitText = end.signal === undefined ? `exit status ${end.code}` : `ended by ${end.signal}`;
      reject(
        new MeshError('kernel', `${command}: ${stderrText.trim().replaceAll('\n', '; ') || exitText}`, {
          retry: end.signal !== undefined,
        }),
      );
    };
    const closed = () => {
      open -= 1;
      finish();
    };
    const kill = () => {
      if (end === undefined) child.watch.signal(constants.signals.SIGKILL);
    };

    try {
      // The child inherits the namespace of the thread that starts it.
      child = inNetns(netnsPath, () =>
        spawnProcess(command, args, { env: ENVIRONMENT, pipes: ['stdin', 'stdout', 'stderr'] }, (ended) => {
          end = ended;
          finish();
        }),
      );
    } catch (thrown) {
      const missing = (thrown as NodeJS.ErrnoException).code === 'ENOENT';
      const remedy = missing ? ': install the package iptables' : ` (${messageOf(thrown)})`;
      reject(new MeshError(missing ? 'unsupported' : 'kernel', `${command} cannot be run${remedy}`));
      return;
    }
    onStart(child.watch.pid);
    const timer = setTimeout(kill, COMMAND_TIMEOUT);
    child.stdout?.on('close', closed).on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length > MAX_OUTPUT) kill();
      else output.push(chunk);
    });
    child.stderr?.on('close', closed).on('data', (chunk: Buffer) => {
      stderrText = `${stderrText}${chunk.toString('utf8')}`.slice(0, 4096);
    });
    // It may end before it has read everything; its exit status is what counts.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });
}
