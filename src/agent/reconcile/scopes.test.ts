import { expect, it } from 'vitest';
import type { Scope } from '../../kernel/kernel.ts';
import { keyOf, type Op } from '../../model/kernel-state.ts';
import { HOST_NETNS, LB_NETNS, networkNetns } from '../../model/linux-names.ts';
import { assignment, desiredState } from '../agent.test-data.ts';
import { addScope, widenScope, withDependentKinds } from './scopes.ts';

const want = desiredState(assignment());
const make = (key: string): Op => ({ verb: 'create', object: want.get(key)! });

it('merges scopes and drops those another one covers', () => {
  const list: Scope[] = [];
  addScope(list, { netns: ['a'], kinds: ['route'] });
  addScope(list, { netns: ['a'], kinds: ['route'] });
  addScope(list, { netns: ['b'], kinds: ['route'] });
  expect(list).toEqual([{ netns: ['a', 'b'], kinds: ['route'] }]);
  addScope(list, { kinds: ['ipset'] });
  expect(list).toHaveLength(2);
  const all: Scope[] = [{}];
  addScope(all, { netns: ['a'], kinds: ['route'] });
  expect(all).toEqual([{}]);
});

it('observes a whole netns again when something in it is recreated', () => {
  const router = networkNetns('ingress');
  const link = make(`link ${router} vxlan0`);
  expect(widenScope({ netns: [router], kinds: ['vxlan'] }, [link], want)).toEqual({ netns: [router] });
  expect(widenScope({ netns: [router] }, [link], want)).toBeUndefined();
  expect(widenScope({}, [link], want)).toBeUndefined();
});

it('observes both ends of the links that end in a recreated netns', () => {
  const wide = widenScope({ netns: [LB_NETNS], kinds: ['netns'] }, [make(`netns ${LB_NETNS}`)], want);
  expect([...wide!.netns!].sort()).toEqual([HOST_NETNS, LB_NETNS, networkNetns('ingress')].sort());
});

it('does not widen a scope when no object is created that others depend on', () => {
  const member = [...want.values()].find(({ kind }) => kind === 'real-server')!;
  expect(widenScope({ kinds: ['real-server'] }, [make(keyOf(member))], want)).toBeUndefined();
});

it('treats an event about one object as one about everything removed with it', () => {
  expect(withDependentKinds({ netns: ['a'], kinds: ['fdb'] }).kinds).toContain('vxlan');
  expect(withDependentKinds({ kinds: ['chain'] })).toEqual({ kinds: ['chain'] });
  expect(withDependentKinds({})).toEqual({});
});
