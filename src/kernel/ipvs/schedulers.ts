import { MeshError } from '../../base/errors.ts';
import { newService } from '../../netlink/ipvs.ts';
import { openScratchNetns, SCRATCH_NETNS } from '../driver/scratch-netns.ts';
import { NETLINK_GENERIC, openTransport } from '../driver/transport.ts';
import { openIpvsFamily } from './ipvs.ts';

/**
 * Those of the named schedulers that this kernel has or can load: a service with each is made in a nameless netns that
 * is removed with the check. ENOENT means that there is no module (ip_vs_scheduler_get); any other refusal is an error.
 */
export async function probeSchedulers(names: readonly string[]): Promise<string[]> {
  const scratch = await openScratchNetns();
  const transport = openTransport(scratch.namespaces, { sends: 0, messages: 0, bytes: 0 });
  try {
    const genl = await openIpvsFamily(transport).require();
    const requests = names.map((scheduler, index) =>
      newService(genl, { family: 'inet', fwmark: index + 1 }, { scheduler }),
    );
    const outcomes = await transport.transact(SCRATCH_NETNS, NETLINK_GENERIC, requests);
    return names.filter((name, index) => {
      const outcome = outcomes[index];
      if (outcome?.ok) return true;
      if (outcome?.code === 'ENOENT') return false;
      throw new MeshError('kernel', `cannot determine whether the kernel has the scheduler ${name}: ${outcome?.code}`);
    });
  } finally {
    transport.close();
    scratch.end();
  }
}
