import { ruleText } from '../../src/model/kinds/firewall-rule.ts';
import type { KernelObject } from '../../src/model/kinds/registry.ts';
import { runJson, runShell } from './sandbox.ts';

/**
 * Objects in the words of the real tools' listings, and what these tools list. Comparing the two says what the kernel
 * holds without asking our own reader.
 */

type Kind = KernelObject['kind'];
type ObjectOfKind<K extends Kind> = Extract<KernelObject, { kind: K }>;

/** What the tools should list for the objects of a netns; sorted. */
export function expectedListing(netns: string, objects: Iterable<KernelObject>): Record<string, string[]> {
  const all = [...objects].filter((object) => object.netns === netns);
  const of = <K extends Kind>(kind: K) => all.filter((object): object is ObjectOfKind<K> => object.kind === kind);
  return {
    addresses: of('address')
      .map(({ dev, address, prefix }) => `${dev} ${address}/${prefix}`)
      .sort(),
    routes: of('route').map(routeWords).sort(),
    rules: [
      ...of('rule').map(({ family, priority, fwmark, fwmask, action }) => {
        const target = action === 'nop' ? '' : 'lookup' in action ? `table ${action.lookup}` : `goto ${action.goto}`;
        return `${family} ${priority} ${fwmark}/${fwmask} ${target}`;
      }),
      ...of('host-rule').map(hostRuleWords),
    ].sort(),
    neighbours: of('neighbour')
      .map(({ dev, address, mac }) => `${dev} ${address} ${mac}`)
      .sort(),
    fdb: of('fdb')
      .map(({ dev, mac, dst }) => `${dev} ${mac} ${dst}`)
      .sort(),
    sets: [
      ...of('ipset').map((set) => {
        const shape = set.type === 'bitmap:port' ? `range ${set.range.from}-${set.range.to}` : `family ${set.family}`;
        return [`create ${set.name} ${set.type} ${shape}`, ...(set.skbinfo ? ['skbinfo'] : [])].join(' ');
      }),
      ...of('set-entry').map(({ set, network, protocol, port, network2 }) => {
        const parts = [
          network.replace(network.includes(':') ? /\/128$/ : /\/32$/, ''),
          ...(port === undefined ? [] : [`${protocol}:${port}`]),
        ];
        return `add ${set} ${[...parts, ...(network2 === undefined ? [] : [network2])].join(',')}`;
      }),
      ...of('set-member').map(({ set, port, mark }) =>
        [`add ${set} ${port}`, ...(mark === undefined ? [] : [`skbmark 0x${mark.toString(16)}`])].join(' '),
      ),
    ].sort(),
    ipvs: [
      ...of('virtual-service').map(
        ({ family, fwmark, scheduler }) => `-A -f ${fwmark}${family === 'inet6' ? ' -6' : ''} -s ${scheduler}`,
      ),
      ...of('real-server').map(({ family, fwmark, address, port, weight }) => {
        const server = family === 'inet6' ? `-6 -r [${address}]` : `-r ${address}`;
        return `-a -f ${fwmark} ${server}:${port} -m -w ${weight}`;
      }),
    ].sort(),
    chains: of('chain')
      .flatMap(({ family, table, chain, rules }) =>
        rules.map((rule) => `${family} ${table} -A ${chain} ${ruleText(rule)}`),
      )
      .sort(),
    jumps: of('jump')
      .map(({ family, table, from, match, chain }) =>
        [family, table, '-A', from, ...(match === '' ? [] : [match]), '-j', chain].join(' '),
      )
      .sort(),
  };
}

/** Only the selectors that the tests use. */
function hostRuleWords({
  family,
  priority,
  source,
  destination,
  fwmark,
  fwmask,
  action,
}: ObjectOfKind<'host-rule'>): string {
  const target =
    typeof action === 'string' ? action : 'lookup' in action ? `table ${action.lookup}` : `goto ${action.goto}`;
  const host = (network: string | undefined) => network?.replace(/\/(32|128)$/, '') ?? 'all';
  return `${family} ${priority} from ${host(source)} to ${host(destination)} ${fwmark}/${fwmask} ${target}`;
}

/** The rules with our protocol number. */
function listHostRules(ip: string, family: string): string[] {
  interface Listing {
    priority: number;
    src: string;
    dst?: string;
    fwmark?: string;
    fwmask?: string;
    table?: string;
    goto?: number;
    protocol?: string;
    action?: string;
  }
  const tables: Readonly<Record<string, string>> = { local: '255', main: '254', default: '253' };
  return runJson<Listing>(`${ip} -j rule show`)
    .filter(({ protocol }) => protocol === '109')
    .map(({ priority, src, dst = 'all', fwmark = '0', fwmask = '0', table, goto, action = '' }) => {
      const target =
        table !== undefined ? `table ${tables[table] ?? table}` : goto !== undefined ? `goto ${goto}` : action;
      return `${family} ${priority} from ${src} to ${dst} ${Number(fwmark)}/${Number(fwmask)} ${target}`;
    });
}

function routeWords(route: ObjectOfKind<'route'>): string {
  const { destination, dev, via, table, source, scope } = route;
  const inet6 = destination.includes(':');
  const name =
    destination === '0.0.0.0/0' || destination === '::/0' ? 'default' : destination.replace(/\/(32|128)$/, '');
  return [name, dev, via ?? '', table, source ?? '', inet6 ? '' : scope].join(' ');
}

/** What the tools list in a netns of that name, in the words of `expected`. */
export function actualListing(netns: string, options: { ipvs: boolean }): Record<string, string[]> {
  const host = netns === 'host';
  const ip = host ? 'ip' : `ip -n ${netns}`;
  const exec = host ? '' : `ip netns exec ${netns} `;
  return {
    addresses: listAddresses(ip, host),
    routes: [...listRoutes(`${ip} -4`), ...listRoutes(`${ip} -6`)].sort(),
    rules: host
      ? [...listHostRules('ip -4', 'inet'), ...listHostRules('ip -6', 'inet6')].sort()
      : [...listRules(`${ip} -4`, 'inet'), ...listRules(`${ip} -6`, 'inet6')].sort(),
    neighbours: runJson<{ dst: string; dev: string; lladdr: string }>(`${ip} -j neigh show nud permanent`)
      .map(({ dst, dev, lladdr }) => `${dev} ${dst} ${lladdr}`)
      .sort(),
    fdb: runJson<{ mac: string; ifname: string; dst?: string }>(`${host ? 'bridge' : `bridge -n ${netns}`} -j fdb show`)
      .flatMap(({ mac, ifname, dst }) => (dst === undefined ? [] : [`${ifname} ${mac} ${dst}`]))
      .sort(),
    sets: lines(`${exec}ipset save`)
      .filter((line) => line.includes('mesh-'))
      // Sizes and the seed of hash sets are the kernel's.
      .map((line) => line.replace(/ hashsize .*$/, ''))
      .sort(),
    ipvs: options.ipvs && !host ? lines(`${exec}ipvsadm -Sn`).map(ipvsWords).sort() : [],
    ...listFirewall(exec),
  };
}

function listAddresses(ip: string, host: boolean): string[] {
  interface Listing {
    ifname: string;
    addr_info: { local: string; prefixlen: number; scope: string }[];
  }
  return runJson<Listing>(`${ip} -j addr show`)
    .filter(({ ifname }) => ifname !== 'lo' && (!host || ifname === 'mesh0'))
    .flatMap(({ ifname, addr_info }) =>
      addr_info
        .filter(({ local, scope }) => scope !== 'link' || local === 'fe80::1')
        .map(({ local, prefixlen }) => `${ifname} ${local}/${prefixlen}`),
    )
    .sort();
}

function listRoutes(ip: string): string[] {
  interface Listing {
    dst: string;
    dev: string;
    gateway?: string;
    table?: string;
    prefsrc?: string;
    scope?: string;
  }
  return runJson<Listing>(`${ip} -j route show table all proto 109`).map(
    ({ dst, dev, gateway, table, prefsrc, scope }) =>
      [dst, dev, gateway ?? '', table ?? 254, prefsrc ?? '', ip.endsWith('6') ? '' : (scope ?? 'global')].join(' '),
  );
}

function listRules(ip: string, family: string): string[] {
  interface Listing {
    priority: number;
    fwmark?: string;
    fwmask?: string;
    table?: string;
    goto?: number;
  }
  return runJson<Listing>(`${ip} -j rule show`)
    .filter(({ priority }) => priority >= 10_000 && priority < 32_766)
    .map(({ priority, fwmark, fwmask, table, goto }) => {
      const mask = fwmark === undefined ? 0 : Number(fwmask ?? 0xffffffff);
      const target = goto === undefined ? `table ${table}` : `goto ${goto}`;
      return `${family} ${priority} ${Number(fwmark ?? 0)}/${mask} ${target}`;
    });
}

function listFirewall(exec: string): { chains: string[]; jumps: string[] } {
  const chains: string[] = [];
  const jumps: string[] = [];
  for (const [family, tool] of [
    ['inet', 'iptables-save'],
    ['inet6', 'ip6tables-save'],
  ] as const) {
    let table = '';
    for (const line of lines(`${exec}${tool}`)) {
      if (line.startsWith('*')) table = line.slice(1);
      if (line.startsWith('-A MESH-')) chains.push(`${family} ${table} ${line}`);
      else if (line.startsWith('-A') && line.includes('-j MESH-')) jumps.push(`${family} ${table} ${line}`);
    }
  }
  return { chains: chains.sort(), jumps: jumps.sort() };
}

function lines(command: string): string[] {
  return runShell(command)
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}

/** One blank between words; without the word `-6` where ipvsadm puts it for real servers as well or not. */
function ipvsWords(line: string): string {
  return line.replace(/\s+/g, ' ');
}
