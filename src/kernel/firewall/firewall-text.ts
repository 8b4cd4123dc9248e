import type { Family } from '../../model/address.ts';
import { keyOf } from '../../model/kernel-state.ts';
import type { FirewallChain } from '../../model/kinds/chain.ts';
import { ruleText } from '../../model/kinds/firewall-rule.ts';
import type { FirewallJump } from '../../model/kinds/jump.ts';
import { parseFirewallRule } from '../../model/kinds/parse-firewall-rule.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import { CHAIN_PREFIX, HOST_NETNS, USER_CHAIN } from '../../model/linux-names.ts';

const TABLES = ['raw', 'mangle', 'nat', 'filter'] as const;
type Table = FirewallChain['table'];

/** Rules per chain per table, in order, without `-A CHAIN`. */
export type FirewallRules = ReadonlyMap<Table, ReadonlyMap<string, readonly string[]>>;

export type FirewallOp =
  | { verb: 'create' | 'change' | 'delete'; object: FirewallChain }
  | { verb: 'create' | 'change' | 'delete'; object: FirewallJump };

/** Reads what iptables-save prints. Lines it does not know and tables that are not ours to use are left out. */
export function parseIptablesSave(text: string): FirewallRules {
  const tables = new Map<Table, Map<string, string[]>>();
  let chains: Map<string, string[]> | undefined;
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) {
      const table = TABLES.find((name) => name === line.slice(1).trim());
      chains = table && new Map<string, string[]>();
      if (table && chains) tables.set(table, chains);
    } else if (line.startsWith(':')) {
      chains?.set(line.slice(1).split(' ', 1)[0] ?? '', []);
    } else if (line.startsWith('-A ')) {
      const end = line.indexOf(' ', 3);
      const chain = end < 0 ? line.slice(3) : line.slice(3, end);
      chains?.get(chain)?.push(end < 0 ? '' : line.slice(end + 1).trim());
    }
  }
  return tables;
}

/** The matches of a rule that jumps into one of our chains, and that chain. */
function parseJump(rule: string): { match: string; chain: string } | undefined {
  const found = /^(?:(.*) )?-j (\S+)$/.exec(rule);
  const chain = found?.[2] ?? '';
  return isMeshChain(chain) ? { match: found?.[1] ?? '', chain } : undefined;
}

function isMeshChain(chain: string): boolean {
  return chain.startsWith(CHAIN_PREFIX) && chain !== USER_CHAIN;
}

function jumpRule(jump: FirewallJump): string {
  return jump.match === '' ? `-j ${jump.chain}` : `${jump.match} -j ${jump.chain}`;
}

/**
 * Our chains and the jumps into them. A jump that is the only rule of a chain is both first and last, so `desired`
 * decides how it is reported; a duplicate jump, or one in the wrong place, is reported with the other position, so that
 * it differs from the desired one.
 */
export function firewallObjects(
  netns: string,
  family: Family,
  text: FirewallRules,
  desired: (key: string) => KernelObject | undefined,
): KernelObject[] {
  const objects: KernelObject[] = [];
  for (const [table, chains] of text) {
    for (const [chain, rules] of chains) {
      if (isMeshChain(chain))
        objects.push({ kind: 'chain', netns, family, table, chain, rules: rules.map(parseFirewallRule) });
      else if (chain === USER_CHAIN) {
        // Anywhere else it is as foreign as any chain.
        if (netns === HOST_NETNS && table === 'filter') {
          objects.push({
            kind: 'chain',
            netns,
            family,
            table,
            chain,
            rules: rules.map(parseFirewallRule),
            administrator: true,
          });
        }
      } else {
        for (const jump of findJumps(rules)) {
          const base = { kind: 'jump' as const, netns, family, table, from: chain, ...jump.object };
          const desiredJump = desired(keyOf({ ...base, position: 'first' }));
          const desiredPosition = desiredJump?.kind === 'jump' ? desiredJump.position : undefined;
          const position = jump.single
            ? jumpPosition(jump, desiredPosition)
            : desiredPosition === 'first'
              ? 'last'
              : 'first';
          objects.push({ ...base, position });
        }
      }
    }
  }
  return objects;
}

interface FoundJump {
  object: { match: string; chain: string };
  single: boolean;
  first: boolean;
  last: boolean;
}

function findJumps(rules: readonly string[]): FoundJump[] {
  const jumps = rules.map(parseJump);
  const firstOther = jumps.indexOf(undefined);
  const lastOther = jumps.lastIndexOf(undefined);
  const found = new Map<string, FoundJump>();
  jumps.forEach((jump, index) => {
    if (!jump) return;
    const twin = found.get(jump.chain);
    if (twin) {
      twin.single = false;
      return;
    }
    found.set(jump.chain, {
      object: jump,
      single: true,
      first: firstOther < 0 || index < firstOther,
      last: index > lastOther,
    });
  });
  return [...found.values()];
}

function jumpPosition(jump: FoundJump, desired: FirewallJump['position'] | undefined): FirewallJump['position'] {
  if (desired === 'last') return jump.last ? 'last' : 'first';
  if (desired === 'first') return jump.first ? 'first' : 'last';
  return jump.first ? 'first' : 'last';
}

/**
 * Input of `iptables-restore --noflush` for all operations at once (one commit per table). `have` is what the netns
 * holds now: a jump is made single by deleting every copy before it is put in place. Deleted chains are declared
 * (which empties them, or creates one that was removed meanwhile) before they are deleted, so that this never fails on order.
 * The administrator's chain is never declared: -N and -X fail if it exists or contains rules by then.
 */
export function formatIptablesRestore(ops: readonly FirewallOp[], current: FirewallRules): string {
  const lines: string[] = [];
  for (const table of TABLES) {
    const tableOps = ops.filter((op) => op.object.table === table);
    if (tableOps.length === 0) continue;
    const chains = tableOps.flatMap((op) => (op.object.kind === 'chain' ? [{ verb: op.verb, chain: op.object }] : []));
    const jumps = tableOps.flatMap((op) => (op.object.kind === 'jump' ? [{ verb: op.verb, jump: op.object }] : []));
    lines.push(`*${table}`);
    const own = chains.filter(({ chain }) => !chain.administrator);
    const left = chains.filter(({ chain }) => chain.administrator);
    for (const { chain } of own) lines.push(`:${chain.chain} - [0:0]`);
    for (const { verb, chain } of left) if (verb === 'create') lines.push(`-N ${chain.chain}`);
    for (const { jump } of jumps) {
      for (const rule of current.get(table)?.get(jump.from) ?? []) {
        if (parseJump(rule)?.chain === jump.chain) lines.push(`-D ${jump.from} ${rule}`);
      }
    }
    for (const { verb, chain } of own) {
      if (verb !== 'delete') lines.push(...chain.rules.map((rule) => `-A ${chain.chain} ${ruleText(rule)}`));
    }
    const placed = jumps.filter(({ verb }) => verb !== 'delete').map(({ jump }) => jump);
    // Each is inserted above the one before it; backwards keeps their order.
    for (const jump of placed.filter((jump) => jump.position === 'first').reverse()) {
      lines.push(`-I ${jump.from} ${jumpRule(jump)}`);
    }
    for (const jump of placed.filter((jump) => jump.position === 'last'))
      lines.push(`-A ${jump.from} ${jumpRule(jump)}`);
    for (const { verb, chain } of chains) if (verb === 'delete') lines.push(`-X ${chain.chain}`);
    lines.push('COMMIT');
  }
  return `${lines.join('\n')}\n`;
}
