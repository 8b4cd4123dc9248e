import { keyOf, type Op } from '../../model/kernel-state.ts';
import { readSysctls, writeSysctls } from '../observe/sysctl.ts';

const EXPIRE_NODEST_CONN = 'net.ipv4.vs.expire_nodest_conn';

/** Whether the operation at that place deletes a real server that the next one creates again: it moves to the end of the list. */
export function isServerMove(ops: readonly Op[], place: number): boolean {
  const [op, next] = [ops[place], ops[place + 1]];
  if (op?.verb !== 'delete' || op.object.kind !== 'real-server') return false;
  return next?.verb === 'create' && keyOf(next.object) === keyOf(op.object);
}

/**
 * A real server that is added again gets its connections back (ip_vs_trash_get_dest), except those with packets in the
 * gap while expire_nodest_conn is on: these would end. While it is off, such a packet is lost and sent again.
 */
export async function preserveConnections(netnsPath: string, work: () => Promise<void>): Promise<void> {
  if (!switchSysctl(netnsPath, '1', '0')) return work();
  try {
    await work();
  } finally {
    switchSysctl(netnsPath, '0', '1');
  }
}

/** Whether it was `from` and is now `to`. In a removed netns nothing is set, and the work itself fails. */
function switchSysctl(netnsPath: string, from: string, to: string): boolean {
  try {
    if (readSysctls(netnsPath, [EXPIRE_NODEST_CONN]).get(EXPIRE_NODEST_CONN) !== from) return false;
    return writeSysctls(netnsPath, [{ name: EXPIRE_NODEST_CONN, value: to }])[0] === undefined;
  } catch {
    return false;
  }
}
