import { HOST_NETNS } from '../../model/linux-names.ts';
import type { RouteQuestion, RouteResult } from '../../model/route-lookup.ts';
import { decodeLink, getLink } from '../../netlink/link.ts';
import type { NetlinkRequest } from '../../netlink/message.ts';
import { decodeRoute } from '../../netlink/route.ts';
import { getRoute } from '../../netlink/route-lookup.ts';
import { decodeAll } from '../driver/decode-all.ts';
import type { Outcome } from '../driver/exchange.ts';
import { NETLINK_ROUTE, type Transport } from '../driver/transport.ts';

/** Types of routes with their way to the next hop; a packet to the others is refused or discarded. */
const DELIVERING: readonly unknown[] = ['unicast', 'local'];

/** Asks the kernel where it would send such a packet of the host. */
export async function lookUpRoute(transport: Transport, question: RouteQuestion): Promise<RouteResult> {
  const ask = async (request: NetlinkRequest): Promise<Outcome | undefined> =>
    (await transport.transact(HOST_NETNS, NETLINK_ROUTE, [request]))[0];
  const linkOf = async (target: { name: string } | { index: number }) => {
    const outcome = await ask(getLink(target));
    return outcome?.ok ? decodeAll(outcome.replies, decodeLink)[0] : undefined;
  };
  const { source, destination, inputLink, mark, protocol, sourcePort, destinationPort } = question;
  const input = inputLink === undefined ? undefined : await linkOf({ name: inputLink });
  if (inputLink !== undefined && input === undefined) return { error: 'ENODEV' };
  const outcome = await ask(
    getRoute({
      source,
      destination,
      inputIndex: input?.index,
      mark,
      transport: protocol === 'sctp' ? undefined : { protocol, sourcePort, destinationPort },
    }),
  );
  if (outcome === undefined || !outcome.ok) return { error: outcome?.code ?? 'EIO' };
  const [route] = decodeAll(outcome.replies, decodeRoute);
  if (route?.index === undefined || !DELIVERING.includes(route.type)) return { error: 'ENETUNREACH' };
  const link = await linkOf({ index: route.index });
  if (link === undefined) return { error: 'ENODEV' };
  return { link: link.name, ...(route.via === undefined ? {} : { via: route.via }), table: route.table };
}
