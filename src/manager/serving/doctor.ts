import type { Clock } from '../../base/clock.ts';
import type { Node } from '../../model/cluster.ts';
import type { DoctorReply } from '../../rpc/messages.ts';
import { type CheckupReply, evaluateCluster } from './doctor-checks.ts';
import { type AskNodes, parseDoctorAnswer } from './node-answers.ts';

/**
 * Has every ready node of `selected` examine itself and evaluates the reports together. `version`: the one that all nodes
 * should have.
 */
export async function examineNodes(
  selected: readonly Node[],
  all: readonly Node[],
  ask: AskNodes,
  clock: Clock,
  version: string,
): Promise<DoctorReply> {
  const ready = selected.filter(({ state }) => state === 'ready');
  const sent = clock.now();
  const answers = await ask(ready, 'doctor', '');
  const received = clock.now();
  const checkups = answers.map((answer): CheckupReply => {
    const parsed = parseDoctorAnswer(answer);
    const report = 'error' in parsed ? parsed : { checkup: parsed.value };
    return { nodeId: answer.nodeId, ...report, sent, received };
  });
  return { nodes: evaluateCluster(selected, all, checkups, version) };
}
