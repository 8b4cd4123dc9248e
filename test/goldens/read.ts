import { readFileSync } from 'node:fs';
import { decodeMessages, type NetlinkMessage } from '../../src/netlink/message.ts';

/** One command of a golden file: the messages sent by the tool, and the datagrams it received. */
export interface Golden {
  command: string;
  sent: NetlinkMessage[];
  received: NetlinkMessage[];
  /** Raw bytes of every line, for mutation. */
  datagrams: Uint8Array[];
}

/** Reads `NAME.txt` beside this file (see capture.sh for the format). */
export function readGoldens(
  name: 'rtnetlink' | 'ipset' | 'ipvs' | 'sock-diag' | 'conntrack' | 'traffic-control',
): Golden[] {
  const goldens: Golden[] = [];
  for (const line of readFileSync(new URL(`${name}.txt`, import.meta.url), 'utf8').split('\n')) {
    if (line.startsWith('$ ')) goldens.push({ command: line.slice(2), sent: [], received: [], datagrams: [] });
    const golden = goldens.at(-1);
    if (golden === undefined || !/^[<>] /.test(line)) continue;
    const datagram = new Uint8Array(Buffer.from(line.slice(2), 'hex'));
    const messages = decodeMessages(datagram);
    if (!messages.ok) throw messages.error;
    (line.startsWith('>') ? golden.sent : golden.received).push(...messages.value);
    golden.datagrams.push(datagram);
  }
  return goldens;
}

/** The golden of a command; if the command was run several times, the first or the `nth` (from 0). */
export function goldenOf(goldens: readonly Golden[], command: string, nth = 0): Golden {
  const golden = goldens.filter((candidate) => candidate.command === command)[nth];
  if (golden === undefined) throw new Error(`no golden of "${command}" (run test/goldens/capture.sh)`);
  return golden;
}
