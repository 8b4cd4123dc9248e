import { familyOf } from '../model/address.ts';
import type { RealServer } from '../model/kinds/real-server.ts';
import { serviceKey } from '../model/kinds/virtual-service.ts';
import { LB_NETNS, portMark } from '../model/linux-names.ts';
import type { Packet } from './packet.ts';
import { commandText, type PartialPath, REPAIR_HINT, recordPass, recordStop } from './partial-path.ts';
import { traceChain } from './steps.ts';

/** lb: fwmark, virtual service, real servers. */
export function traceBalancer(partial: PartialPath, packet: Packet): RealServer[] | undefined {
  const { state } = partial.node;
  const marked = traceChain(partial, { table: 'mangle', from: 'PREROUTING' }, packet, () => false);
  if (marked === undefined) return undefined;
  const what = `${packet.port}/${packet.protocol}`;
  const family = familyOf(packet.destination);
  const fwmark = portMark(packet.protocol, packet.port);
  const identity = { netns: LB_NETNS, family, fwmark };
  // IPVS looks up by mark first; persistent and SCTP services are found by destination address.
  const byMark = marked.mark === 0 ? undefined : state.get(serviceKey({ ...identity, fwmark: marked.mark }));
  const service = byMark ?? state.get(serviceKey({ ...identity, at: packet.destination }));
  if (service?.kind !== 'virtual-service') {
    if (packet.protocol === 'sctp') {
      return recordStop(
        partial,
        'refused',
        LB_NETNS,
        what,
        'no task of the service is ready. See `meshctl service ps`',
      );
    }
    const problem = marked.mark === 0 ? 'the port has no fwmark in the lb' : 'IPVS has no service for its fwmark';
    return recordStop(partial, 'refused', LB_NETNS, what, `${problem}: ${REPAIR_HINT}`);
  }
  const servers = [...state.values()].filter(
    (object): object is RealServer =>
      object.kind === 'real-server' &&
      object.netns === LB_NETNS &&
      object.family === family &&
      object.fwmark === service.fwmark,
  );
  const open = servers.filter(({ weight }) => weight > 0);
  const closed = servers.length - open.length;
  const draining = closed === 0 ? '' : `, ${closed} with weight 0 keep${closed === 1 ? 's' : ''} what they have`;
  if (open.length === 0) {
    const reason = `no real server takes new connections${draining}: no task of the service is ready for this node. See \`meshctl service ps\``;
    return recordStop(partial, 'refused', LB_NETNS, commandText(service), reason);
  }
  const plural = open.length === 1 ? '' : 's';
  const changed = service.foreign === undefined ? '' : `; another program set ${service.foreign.join(', ')}`;
  const effect = `picks one of ${open.length} real server${plural}${draining}${changed}`;
  recordPass(partial, LB_NETNS, commandText(service), effect);
  return open;
}
