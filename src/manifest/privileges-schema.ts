import * as z from 'zod';
import { CAPABILITY_NAMES, type CapabilityOrAll, type RequestedPrivileges } from '../model/capabilities.ts';
import { closestMatch } from './closest-match.ts';
import { describeValue, fail, flag } from './fields.ts';
import { shorten } from './manifest-error.ts';

type Context = z.core.$RefinementCtx;

/** `NET_ADMIN`, `cap_net_admin` or `ALL`. */
const capability = z.unknown().transform((value, ctx): CapabilityOrAll => {
  const written = typeof value === 'string' ? value.toUpperCase().replace(/^CAP_/, '') : '';
  const name = CAPABILITY_NAMES.find((candidate) => candidate === written);
  if (name !== undefined) return name;
  const near = closestMatch(written, CAPABILITY_NAMES);
  const what = typeof value === 'string' ? `"${shorten(value)}"` : describeValue(value);
  const remedy = 'use a name of capabilities(7), such as NET_ADMIN, or ALL';
  fail(ctx, `${what} is not a capability`, near === undefined ? remedy : `did you mean ${near}?`);
  return 'ALL';
});

const capabilities = z.array(capability);

/** Keys of a service. */
export const privilegeKeys = {
  cap_add: capabilities.optional(),
  cap_drop: capabilities.optional(),
  privileged: flag.optional(),
};

interface Given {
  cap_add?: CapabilityOrAll[] | undefined;
  cap_drop?: CapabilityOrAll[] | undefined;
  privileged?: boolean | undefined;
}

/** What they request, in the order of the numbers and without repetitions; contradictions are reported. */
export function privilegesOf(given: Given, ctx: Context): RequestedPrivileges {
  const { cap_add: added = [], cap_drop: dropped = [], privileged = false } = given;
  const twice = dropped.findIndex((name) => added.includes(name));
  if (twice >= 0) fail(ctx, `${dropped[twice]} is in \`cap_add\` as well`, 'remove one of them', ['cap_drop', twice]);
  if (privileged && added.length + dropped.length > 0) {
    const remedy = 'remove `privileged`, or remove `cap_add` and `cap_drop`';
    fail(ctx, 'gives every capability, which `cap_add` and `cap_drop` contradict', remedy, ['privileged']);
  }
  const capAdd = CAPABILITY_NAMES.filter((name) => added.includes(name));
  const capDrop = CAPABILITY_NAMES.filter((name) => dropped.includes(name));
  return {
    ...(capAdd.length === 0 ? {} : { capAdd }),
    ...(capDrop.length === 0 ? {} : { capDrop }),
    ...(privileged ? { privileged } : {}),
  };
}
