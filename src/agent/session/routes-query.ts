import type { Kernel } from '../../kernel/kernel.ts';
import { familyOf } from '../../model/address.ts';
import { balancerAddresses } from '../../model/balancer-addresses.ts';
import type { KernelState } from '../../model/kernel-state.ts';
import { HOST_LINK, HOST_NETNS } from '../../model/linux-names.ts';
import { parseConnectionQuestion } from '../../model/node-answers.ts';
import type { ConnectionRoutes } from '../../model/route-lookup.ts';
import { evaluateChain } from '../../trace/firewall.ts';

/** Stands for any port of a client. */
const CLIENT_PORT = 40_000;

/** Asks the kernel for the ways of a connection through the host; throws MeshError `invalid` for a malformed argument. */
export async function answerRoutesQuery(
  argument: unknown,
  have: KernelState,
  lookUpRoute: Kernel['lookUpRoute'],
): Promise<ConnectionRoutes> {
  const { client, called, protocol, published } = parseConnectionQuestion(argument);
  const answer = { destination: client, protocol, sourcePort: published, destinationPort: CLIENT_PORT };
  const own = await lookUpRoute({ ...answer, source: called, mark: 0 });
  const lb = [...balancerAddresses(have.values())].find((address) => familyOf(address) === familyOf(called));
  if (lb === undefined) return { own, answer: { error: 'ENODEV' }, request: { error: 'ENODEV' } };
  const markOf = (inputLink: string | undefined) =>
    chainMark(have, {
      ...{ protocol, source: lb, destination: client, port: published, netns: HOST_NETNS },
      ...{ mark: 0, connmark: 0, translated: true, answer: inputLink === HOST_LINK, called },
      ...(inputLink === undefined ? {} : { inputLink }),
    });
  const fromClient = 'error' in own ? undefined : own.link;
  return {
    own,
    answer: await lookUpRoute({ ...answer, source: lb, inputLink: HOST_LINK, mark: markOf(HOST_LINK) }),
    request:
      fromClient === undefined
        ? own
        : await lookUpRoute({
            ...{ source: client, destination: lb, inputLink: fromClient, mark: markOf(fromClient), protocol },
            ...{ sourcePort: CLIENT_PORT, destinationPort: published },
          }),
  };
}

/** The mark that our chain gives a packet before it is routed. */
function chainMark(state: KernelState, packet: Parameters<typeof evaluateChain>[1]): number {
  const result = evaluateChain({ table: 'mangle', from: 'PREROUTING' }, packet, { state, isLocal: () => false });
  return result?.packet.mark ?? 0;
}
