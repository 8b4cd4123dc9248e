import { expect, it } from 'vitest';
import type { KernelObject } from '../../model/kinds/registry.ts';
import { newService } from '../../netlink/ipvs.ts';
import { newDestination } from '../../netlink/ipvs-destination.ts';
import type { NetlinkMessage, NetlinkRequest } from '../../netlink/message.ts';
import type { Transport } from '../driver/transport.ts';
import { stepsOf } from '../kinds/registry.ts';
import type { NetnsScan } from '../observe/observer.ts';
import { observeServices } from './observe-services.ts';

const GENL = 30;
const MARK = 73_616;
const key = { family: 'inet', fwmark: MARK } as const;
const at = (address: string) => ({ address, port: 80 });
/** The kernel lists services and real servers in the layout of the requests that make them. */
const listed = ({ type, payload }: NetlinkRequest): NetlinkMessage => ({
  type,
  flags: 0,
  sequence: 0,
  portId: 0,
  payload,
});

const services = [listed(newService(GENL, key, { scheduler: 'rr', flags: 4 }))];
const servers = [
  listed(newDestination(GENL, key, at('10.252.1.5'), { weight: 7 })),
  listed(newDestination(GENL, key, at('10.252.2.5'), { weight: 1, forwarding: 'tunnel' })),
  listed(newDestination(GENL, key, at('10.252.3.5'), { weight: 1, upperThreshold: 100, lowerThreshold: 50 })),
];

/** Answers the dump of services first, then those of real servers. */
function scan(): NetnsScan {
  const answers = [services, servers];
  const transport = { dump: async () => answers.shift() ?? [] } as Partial<Transport> as Transport;
  const ipvs = { find: async () => GENL, require: async () => GENL };
  return {
    transport,
    ipvs,
    netns: 'mesh-lb',
    includes: () => true,
    desiredHere: [],
  } as Partial<NetnsScan> as NetnsScan;
}

it('reports what other programs did to services and real servers beside their ordinary fields', async () => {
  const found = await observeServices(scan());
  const identity = { netns: 'mesh-lb', ...key };
  expect(found).toEqual([
    { kind: 'virtual-service', ...identity, scheduler: 'rr', foreign: ['flags 0x4'] },
    { kind: 'real-server', ...identity, ...at('10.252.1.5'), weight: 7 },
    { kind: 'real-server', ...identity, ...at('10.252.2.5'), weight: 1, foreign: ['forwarding tunnel'] },
    {
      kind: 'real-server',
      ...identity,
      ...at('10.252.3.5'),
      weight: 1,
      foreign: ['at most 100 connections', 'again below 50 connections'],
    },
  ]);
});

it('repairs a real server with a request that sets all of it', async () => {
  const [, , before] = (await observeServices(scan())) as KernelObject[];
  const { foreign: _, ...object } = before!;
  const op = { verb: 'change', object: object as KernelObject, before: before! } as const;
  const [step] = stepsOf(op);
  if (step?.backend !== 'netlink') throw new Error('not a netlink step');
  const context = { ipvsFamilyId: GENL, index: () => 0, fd: () => 0 };
  const repaired = listed(step.buildRequest(context, op));
  servers.splice(1, 1, repaired);
  const again = (await observeServices(scan())) as KernelObject[];
  expect(again[2]).toEqual(object);
});
