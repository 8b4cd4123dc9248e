import * as z from 'zod';
import type { Assignment, AssignmentDelta } from '../model/assignment.ts';
import { LIMIT } from '../model/limits.ts';
import { balancing, healthCheck, logLimits, portMode, privileges, protocol } from './check-spec.ts';
import {
  address,
  cidr,
  command,
  count,
  directory,
  duration,
  environment,
  id,
  integer,
  list,
  mac,
  name,
  port,
  user,
  word,
} from './check-values.ts';

/* What a node receives from a manager. */

/** Entries of one list of an assignment; the message size is the other bound. */
const MANY = 1_000_000;
const missing = { error: 'is missing' };

const INET = cidr('inet');
const INET6 = cidr('inet6');
const subnet = z.discriminatedUnion('family', [
  z.object({ family: z.literal('inet'), cidr: INET, block: INET }),
  z.object({ family: z.literal('inet6'), cidr: INET6, block: INET6 }),
]);
const block = z.discriminatedUnion('family', [
  z.object({ networkId: id, family: z.literal('inet'), block: INET }),
  z.object({ networkId: id, family: z.literal('inet6'), block: INET6 }),
]);

const peer = z.object({
  nodeId: id,
  number: port,
  underlay: address,
  mac,
  blocks: list(block, 1_024),
});

/** IP_VS_SCHEDNAME_MAXLEN in include/uapi/linux/ip_vs.h is 16 with the NUL. */
const scheduler = z.string(missing).regex(/^[a-z0-9_-]{1,15}$/, { error: 'is not the name of an IPVS scheduler' });

const assignedPort = z.object({
  protocol,
  published: port,
  mode: portMode,
  serviceId: id,
  serviceName: name,
  scheduler,
  fallback: scheduler.exactOptional(),
  ...balancing,
  endpoints: list(z.object({ taskId: id, nodeId: id, address, port, weight: integer(0, 65_535) }), MANY),
});

const target = z.object({ protocol, port });
const assignedTask = z.object({
  id,
  serviceId: id,
  serviceName: name,
  slot: integer(1, 65_535),
  desired: word(['running', 'shutdown']),
  addresses: list(z.object({ networkId: id, address }), 1_024),
  process: z.object(
    {
      command,
      workingDir: directory,
      user: user.exactOptional(),
      ...privileges,
      environment,
      log: logLimits.exactOptional(),
    },
    missing,
  ),
  targets: list(target.extend({ ready: z.literal(false).exactOptional() }), LIMIT.ports),
  pick: list(target, LIMIT.ports).exactOptional(),
  redirects: list(z.object({ protocol, from: port, to: port }), LIMIT.ports).exactOptional(),
  health: healthCheck.exactOptional(),
  stopGracePeriod: duration,
});

const changes = {
  peers: list(peer, MANY),
  ports: list(assignedPort, MANY),
  tasks: list(assignedTask, MANY),
};

export const assignment: z.ZodType<Assignment> = z.object(
  {
    revision: count,
    self: z.object({ nodeId: id, name, number: port, underlay: address }, missing),
    networks: list(z.object({ id, name, vni: integer(1, 0xffffff), subnets: list(subnet, 16) }), MANY),
    ...changes,
  },
  missing,
);

const portKey = z.string(missing).regex(/^\d{1,5}\/(tcp|udp|sctp)$/, { error: 'is not a port key such as 80/tcp' });

export const assignmentDelta: z.ZodType<AssignmentDelta> = z.object({
  base: count,
  revision: count,
  ...changes,
  removedPeers: list(id, MANY),
  removedPorts: list(portKey, MANY),
  removedTasks: list(id, MANY),
});
