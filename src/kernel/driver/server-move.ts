import { keyOf, type Op } from '../../model/kernel-state.ts';
import { readSysctls, writeSysctls } from '../observe/sysctl.ts';

const EXPIRE_NODEST_CONN = 'net.ipv4.vs.expire_nodest_conn';

/** Whether the op at that place takes a real server out that the next one puts back: it moves to the end of the list. */
export function isServerMove(ops: readonly Op[], place: number): boolean {
  const [op, next] = [ops[place], ops[place + 1]];
  if (op?.verb !== 'delete' || op.object.kind !== 'real-server') return false;
  return next?.verb === 'create' && keyOf(next.object) === keyOf(op.object);
}

/**
 * A real server that comes back finds its connections again (ip_vs_trash_get_dest), but for those whose packets met the
 * gap while expire_nodest_conn is on: these would end. Off, such a packet is lost, and sent again by its peer.
 */
export async function preserveConnections(netnsPath: string, work: () => Promise<void>): Promise<void> {
  if (!switchSysctl(netnsPath, '1', '0')) return work();
  try {
    await work();
  } finally {
    switchSysctl(netnsPath, '0', '1');
  }
}

/** Whether it was `from` and is now `to`. In a netns that is gone nothing is to be set, and the work itself will say so. */
function switchSysctl(netnsPath: string, from: string, to: string): boolean {
  try {
    if (readSysctls(netnsPath, [EXPIRE_NODEST_CONN]).get(EXPIRE_NODEST_CONN) !== from) return false;
    return writeSysctls(netnsPath, [{ name: EXPIRE_NODEST_CONN, value: to }])[0] === undefined;
  } catch {
    return false;
  }
}
