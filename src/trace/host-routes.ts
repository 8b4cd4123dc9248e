import { HOST_LINK, HOST_NETNS } from '../model/linux-names.ts';
import type { RouteResult } from '../model/route-lookup.ts';
import { isAddressOf } from './addresses.ts';
import { hostFastPath } from './host-fast-path.ts';
import type { Packet, TraceRequest } from './packet.ts';
import { type PartialPath, recordPass, recordStop } from './partial-path.ts';
import { traceChain } from './steps.ts';

/*
 * The host's own rules and routes are those of other programs, so they are not evaluated here: the kernel of the node was
 * asked where it sends the packets of this connection. Nothing is known of them without its answers.
 */

/** What the lookup of an incoming packet reports if the reverse path check drops it: EINVAL on newer kernels. */
const REVERSE_PATH: readonly string[] = ['EXDEV', 'EINVAL'];

/** Whether the request reaches the lb, and not another link or the reverse path check. */
export function checkRequestRoute(partial: PartialPath, { routes, client }: TraceRequest, packet: Packet): boolean {
  if (routes === undefined || 'error' in routes.own) return true;
  const { own, request } = routes;
  const object = `route to ${packet.destination} from ${client} iif ${own.link}`;
  const lose = (reason: string) => {
    recordStop(partial, 'lost', HOST_NETNS, object, reason);
    return false;
  };
  if ('error' in request) {
    if (!REVERSE_PATH.includes(request.error))
      return lose(`the host has no way to the lb (${request.error}). See \`ip rule\``);
    return lose(`the reverse path check of ${own.link} drops the request: set rp_filter of it, and of all, to 2`);
  }
  if (request.link === HOST_LINK) return true;
  return lose(`the host sends it to ${routeWords(request)} instead of ${HOST_LINK}. See \`ip rule\``);
}

/** The answer in the host of the entry node, out of the lb: its firewall, and the way that the kernel chooses. */
export function traceAnswerInHost(partial: PartialPath, request: TraceRequest, lb: Packet): boolean {
  const { client, node } = request;
  if (hostFastPath(request) !== undefined) return checkOwnRoute(partial, request);
  const { outputLink: _, ...sent } = lb;
  const answer: Packet = { ...sent, netns: HOST_NETNS, inputLink: HOST_LINK, mark: 0, translated: true, answer: true };
  if (isAddressOf(node, client)) {
    return traceChain(partial, { table: 'filter', from: 'INPUT' }, answer, () => true) !== undefined;
  }
  const isLocal = () => false;
  const marked = traceChain(partial, { table: 'mangle', from: 'PREROUTING' }, answer, isLocal, 'optional');
  const passed = marked && traceChain(partial, { table: 'filter', from: 'FORWARD' }, marked, isLocal);
  return passed !== undefined && checkAnswerRoute(partial, request);
}

/** Whether the host has a way to the client at all. */
function checkOwnRoute(partial: PartialPath, { routes, client, destination }: TraceRequest): boolean {
  if (routes === undefined || !('error' in routes.own)) return true;
  const object = `route to ${client} from ${destination}`;
  const reason = `the host has no way back to the client (${routes.own.error}), for its own programs neither. See \`ip ${object.replace('route to', 'route get')}\``;
  recordStop(partial, 'lost', HOST_NETNS, object, reason);
  return false;
}

/** Whether the answer leaves as if the called address had sent it. */
function checkAnswerRoute(partial: PartialPath, request: TraceRequest): boolean {
  if (!checkOwnRoute(partial, request)) return false;
  const { routes, client, destination } = request;
  if (routes === undefined) return true;
  const { own, answer } = routes;
  const object = `route to ${client} iif ${HOST_LINK}`;
  if (!isSameRoute(own, answer)) {
    const reason = `the answer leaves by ${routeWords(answer)}, but packets from ${destination} by ${routeWords(own)}: a rule of the host selects by what answers of the mesh do not have. See \`ip rule\``;
    recordStop(partial, 'lost', HOST_NETNS, object, reason);
    return false;
  }
  recordPass(partial, HOST_NETNS, object, `leaves by ${routeWords(answer)} with source ${destination}`);
  return true;
}

function isSameRoute(a: RouteResult, b: RouteResult): boolean {
  if ('error' in a || 'error' in b) return false;
  return a.link === b.link && a.via === b.via;
}

function routeWords(route: RouteResult): string {
  if ('error' in route) return `no route (${route.error})`;
  return route.via === undefined ? route.link : `${route.link} via ${route.via}`;
}
