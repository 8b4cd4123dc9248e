/**
 * The one order. Objects are built stage by stage downwards in this list and removed upwards: whatever an object depends
 * on is in an earlier stage. Paths come before traffic, and a published port's own entry in the host is the last in and
 * the first out. A kind may have objects in several stages, and several kinds may share one.
 */
const STAGES = [
  'namespaces',
  'namespace settings',
  'tunnels',
  'link pairs',
  'link settings',
  'addresses',
  'neighbours',
  'forwarding entries',
  'on-link routes',
  'gateway routes',
  'rules',
  'sets',
  // A peer that may send is part of the path to it.
  'peers in sets',
  'timeouts',
  'administrator chains',
  'chains',
  'jumps',
  // Settings of conntrack exist as soon as the first rule needs it.
  'conntrack settings',
  'virtual services',
  'real servers',
  'marks',
  'published ports',
  'clients in sets',
  // The way back before the way there: the standard path refuses an answer that conntrack does not know.
  'fast path back',
  'fast path in routers',
  'fast path tasks',
  'fast path ports',
  'fast path peers',
  'fast path of the host',
] as const;

export type Stage = (typeof STAGES)[number];

/** Place of a stage in the order, from 0. */
export const STAGE_RANK = Object.fromEntries(STAGES.map((stage, index) => [stage, index])) as Record<Stage, number>;
