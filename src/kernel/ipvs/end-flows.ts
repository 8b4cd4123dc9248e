import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { IpAddress } from '../../model/address.ts';
import { HOST_NETNS } from '../../model/linux-names.ts';
import { decodeFlow, deleteFlow, dumpFlows, type Flow, flowProtocolNumber } from '../../netlink/conntrack.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { NETLINK_NETFILTER, type Transport } from '../driver/transport.ts';
import { readLocalAddresses } from '../host/local-addresses.ts';
import { FLOW_PROTOCOLS, type FlowChange, isStale } from './stale-flows.ts';

/** For more ports of a protocol than this all flows are listed once. */
const MAX_FILTERED_DUMPS = 4;
/** A packet in flight while its port was added may have created one more entry. */
const MAX_PASSES = 3;

/** Deletes the flows that the changes affect; returns how many. Failures are only logged: flows end by themselves. */
export async function endStaleFlows(
  transport: Transport,
  changes: readonly FlowChange[],
  balancer: ReadonlySet<IpAddress>,
  log: Log,
): Promise<number> {
  let ended = 0;
  try {
    for (let pass = 0; pass < MAX_PASSES; pass += 1) {
      const flows = await findStaleFlows(transport, changes, balancer);
      if (flows.length === 0) break;
      const outcomes = await transport.transact(HOST_NETNS, NETLINK_NETFILTER, flows.map(deleteFlow));
      const refusal = outcomes.find((outcome) => !outcome.ok && outcome.code !== 'ENOENT');
      if (refusal !== undefined && !refusal.ok) log.warn(`cannot delete an old flow of a UDP port: ${refusal.code}`);
      ended += outcomes.filter(({ ok }) => ok).length;
      if (refusal !== undefined) break;
    }
  } catch (thrown) {
    log.warn(
      `cannot list old flows of UDP ports (${messageOf(thrown)}); clients that never stop sending may not reach a new port; load the module nf_conntrack_netlink`,
    );
  }
  if (ended > 0) log.debug({ count: ended }, 'deleted flows whose translation was decided earlier');
  return ended;
}

async function findStaleFlows(transport: Transport, changes: readonly FlowChange[], balancer: ReadonlySet<IpAddress>) {
  const { includes: isLocal } = await readLocalAddresses(transport);
  const flows: Flow[] = [];
  for (const protocol of FLOW_PROTOCOLS) {
    const ofProtocol = changes.filter((change) => change.protocol === protocol);
    const byPort = Map.groupBy(ofProtocol, ({ port }) => port);
    if (byPort.size === 0) continue;
    const isAdded = ({ added }: FlowChange) => added;
    const translated = ofProtocol.every(isAdded) ? false : ofProtocol.some(isAdded) ? undefined : true;
    const ports = byPort.size > MAX_FILTERED_DUMPS ? [undefined] : [...byPort.keys()];
    for (const family of ['inet', 'inet6'] as const) {
      for (const port of ports) {
        const request = dumpFlows(family, protocol, { port, translated });
        const listed = await transport.dump(HOST_NETNS, NETLINK_NETFILTER, request);
        for (const flow of decodeAll(listed, decodeFlow)) {
          if (flow.protocol !== flowProtocolNumber(protocol)) continue;
          const related = byPort.get(flow.original.destinationPort) ?? [];
          if (related.some((change) => isStale(change, flow, isLocal, balancer))) flows.push(flow);
        }
      }
    }
  }
  return flows;
}
