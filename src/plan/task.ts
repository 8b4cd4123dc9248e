import { familyOf } from '../model/address.ts';
import type { AssignedTask } from '../model/assignment.ts';
import { DEFAULT_DESTINATION, hostNetwork, hostPrefix } from '../model/block.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import { TASK_GATEWAY, TASK_LINK, taskNetns, taskVeth } from '../model/linux-names.ts';
import type { PlanContext } from './context.ts';
import { planFastPathTask } from './fast-path.ts';
import { planRedirects } from './firewall.ts';
import { route } from './route.ts';
import { planTaskSysctls } from './sysctls.ts';
import { veth } from './veth.ts';

/** A task's own netns, connected to the router by a veth pair. It exists as long as the task is assigned, running or not. */
export function planTask(context: PlanContext, task: AssignedTask): KernelObject[] {
  const { router } = context;
  const netns = taskNetns(task.id);
  const link = taskVeth(task.id);
  const objects: KernelObject[] = [
    { kind: 'netns', netns, loopbackUp: true },
    ...planTaskSysctls(netns),
    veth([router, link], [netns, TASK_LINK], context.mtu),
  ];
  for (const { networkId, address } of task.addresses) {
    const family = familyOf(address);
    if (networkId !== context.network.id || !context.subnets.some((subnet) => subnet.family === family)) continue;
    const gateway = TASK_GATEWAY[family];
    objects.push(
      // fe80::1 joins the link's own fe80::/64; 169.254.1.1 is a single address.
      { kind: 'address', netns: router, dev: link, address: gateway, prefix: family === 'inet' ? 32 : 64 },
      { kind: 'address', netns, dev: TASK_LINK, address, prefix: hostPrefix(family) },
      route(router, hostNetwork(address), link),
      route(netns, DEFAULT_DESTINATION[family], TASK_LINK, { via: gateway }),
    );
    if (family === 'inet') objects.push(route(netns, hostNetwork(gateway), TASK_LINK));
  }
  const families = new Set(task.addresses.map(({ address }) => familyOf(address)));
  for (const { family } of context.subnets)
    if (families.has(family)) objects.push(...planRedirects(netns, family, task));
  objects.push(...planFastPathTask(context, task));
  return objects;
}
