import { type FastPathProgram, isForOutgoing, referencedLinks } from '../../model/kinds/fast-path.ts';
import { FAST_PATH_PREFERENCE } from '../../model/linux-names.ts';
import { newBpfFilter, newClsact } from '../../netlink/traffic-control.ts';
import { openNamespaces } from '../driver/namespaces.ts';
import { NETLINK_ROUTE, openTransport } from '../driver/transport.ts';
import type { FastPathMaps } from './fast-path-maps.ts';
import { loadProgram } from './fast-path-objects.ts';
import { FILTER_HANDLE, filterName } from './fast-path-programs.ts';
import { parentOf, resolveLinkIndexes } from './tc-filters.ts';

/** Runs a program on a link of a netns in the tests of this folder, until the link is removed; returns its ifindex. */
export async function attachProgram(
  maps: FastPathMaps,
  netns: string,
  link: string,
  program: FastPathProgram,
): Promise<number> {
  const namespaces = {
    ...openNamespaces('/run/netns'),
    path: (name: string) => `/run/netns/${name}`,
    identity: (name: string) => name,
  };
  const transport = openTransport(namespaces, { sends: 0, messages: 0, bytes: 0 });
  const indexes = await resolveLinkIndexes(transport, netns, [link, ...referencedLinks(program)]);
  const index = indexes.get(link)!;
  const handle = loadProgram(program, (name) => indexes.get(name)!, maps.mapsFor(program.type));
  const place = { index, parent: parentOf(isForOutgoing(program)), handle: FILTER_HANDLE };
  const filter = { ...place, preference: FAST_PATH_PREFERENCE, fd: handle.fd, name: filterName(program) };
  const [qdisc, added] = await transport.transact(netns, NETLINK_ROUTE, [newClsact(index), newBpfFilter(filter)]);
  handle.close();
  transport.close();
  for (const outcome of [qdisc, added])
    if (!outcome?.ok && outcome?.code !== 'EEXIST') throw new Error(`${link}: ${outcome?.code} ${outcome?.text}`);
  return index;
}
