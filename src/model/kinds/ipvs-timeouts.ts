import { number } from './fields.ts';
import { defineKind, type ObjectBase } from './kind.ts';
import { execPrefix } from './words.ts';

/** Idle times of connections in one netns, seconds (IPVS_CMD_SET_CONFIG). */
export interface IpvsTimeouts extends ObjectBase {
  kind: 'ipvs-timeouts';
  tcp: number;
  tcpFin: number;
  udp: number;
}

export const ipvsTimeouts = defineKind<IpvsTimeouts>({
  kind: 'ipvs-timeouts',
  fields: { tcp: number, tcpFin: number, udp: number },
  key: ({ netns }) => `ipvs-timeouts ${netns}`,
  stage: 'timeouts',
  // Every netns always has them.
  isPermanent: () => true,
  commands: ({ netns, tcp, tcpFin, udp }, verb) =>
    verb === 'delete' ? [] : [`${execPrefix(netns)}ipvsadm --set ${tcp} ${tcpFin} ${udp}`],
});
