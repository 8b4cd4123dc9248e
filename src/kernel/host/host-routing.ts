import { readdirSync, readFileSync } from 'node:fs';
import { withoutHostBits } from '../../model/block.ts';
import { HOST_NETNS, ROUTE_PROTOCOL } from '../../model/linux-names.ts';
import { type HostRouting, isKernelRule, type PolicyRule } from '../../model/policy-rule.ts';
import { decodeRule, dumpRules, type RuleEntry } from '../../netlink/rule.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { NETLINK_ROUTE, type Transport } from '../driver/transport.ts';
import { readLocalAddresses } from './local-addresses.ts';

const SETTINGS = '/proc/sys/net/ipv4/conf';
/** Value of rp_filter. */
const STRICT = 1;

/** The rules of other programs in the host, and how it checks reverse paths. */
export async function readHostRouting(transport: Transport): Promise<HostRouting> {
  const entries = decodeAll(await transport.dump(HOST_NETNS, NETLINK_ROUTE, dumpRules()), decodeRule);
  const rules = entries.filter(({ protocol }) => protocol !== ROUTE_PROTOCOL).map(policyRule);
  const sources = [...new Set(rules.flatMap(({ source }) => source ?? []))];
  const local = sources.length === 0 ? undefined : await readLocalAddresses(transport);
  return {
    rules,
    localSources: sources.filter((source) => local?.touches(source)),
    // There is a file to read for each link.
    strictReversePath: !rules.every(isKernelRule) && isStrict(readReversePathFilters()),
  };
}

/** A rule as the kernel lists it. */
export function policyRule(entry: RuleEntry): PolicyRule {
  const { protocol: _, otherSelectors: __, furtherSelectors, inputLink, action, source, ...rest } = entry;
  const isForwarded = inputLink !== undefined && inputLink !== 'lo';
  return {
    ...rest,
    // The kernel keeps host bits and does not compare them; iptables clears them.
    ...(source === undefined ? {} : { source: withoutHostBits(source) }),
    action: action === 'other' ? 'nop' : action,
    ...(inputLink === 'lo' ? { fromHost: true } : {}),
    ...(isForwarded ? { forwarded: true } : {}),
    ...(furtherSelectors === true || action === 'other' ? { others: true } : {}),
  };
}

/** `filters`: rp_filter by link, and that of `all`; the greater one counts (IN_DEV_RPFILTER, include/linux/inetdevice.h). */
export function isStrict(filters: ReadonlyMap<string, number>): boolean {
  const all = filters.get('all') ?? 0;
  return [...filters].some(([link, value]) => !NO_LINKS.includes(link) && Math.max(all, value) === STRICT);
}

/** Directories beside those of links, and the one link whose packets never come from outside. */
const NO_LINKS: readonly string[] = ['all', 'default', 'lo'];

function readReversePathFilters(): Map<string, number> {
  const filters = new Map<string, number>();
  for (const link of readdirSync(SETTINGS)) {
    try {
      filters.set(link, Number(readFileSync(`${SETTINGS}/${link}/rp_filter`, 'utf8')));
    } catch {
      // The link was removed meanwhile.
    }
  }
  return filters;
}
