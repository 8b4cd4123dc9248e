import { text } from './fields.ts';
import { defineKind, type ObjectBase } from './kind.ts';
import { insideLink, insideNetns } from './things.ts';
import { execPrefix } from './words.ts';

export interface Sysctl extends ObjectBase {
  kind: 'sysctl';
  /** Dotted name; a dot inside an interface name is written `/`, as sysctl(8) does. */
  name: string;
  value: string;
}

export const sysctl = defineKind<Sysctl>({
  kind: 'sysctl',
  fields: { name: text, value: text },
  key: ({ netns, name }) => sysctlKey(netns, name),
  stage({ name }) {
    if (name.startsWith('net.netfilter.')) return 'conntrack settings';
    return linkOf(name) === undefined ? 'namespace settings' : 'link settings';
  },
  inside({ netns, name }) {
    const dev = linkOf(name);
    return dev === undefined ? insideNetns(netns) : insideLink(netns, dev);
  },
  // No one knows what a sysctl was before it was ours.
  isPermanent: () => true,
  commands: ({ netns, name, value }, verb) =>
    verb === 'delete' ? [] : [`${execPrefix(netns)}sysctl -qw ${name}=${value}`],
});

export function sysctlKey(netns: string, name: string): string {
  return `sysctl ${netns} ${name}`;
}

/** `net.ipv4.conf.mesh0.rp_filter` belongs to mesh0; `all` and `default` to the netns. */
function linkOf(name: string): string | undefined {
  const dev = /^net\.ipv[46]\.(?:conf|neigh)\.([^.]+)\./.exec(name)?.[1];
  return dev === undefined || dev === 'all' || dev === 'default' ? undefined : dev.replaceAll('/', '.');
}
