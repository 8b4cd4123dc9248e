import { beforeEach, expect, it } from 'vitest';
import { keyOf, stateOf } from '../../model/kernel-state.ts';
import { createDesiredState, type DesiredState } from './desired-state.ts';

const first = { kind: 'netns', netns: 'mesh-first', loopbackUp: true } as const;
const second = { kind: 'netns', netns: 'mesh-second', loopbackUp: true } as const;

let desired: DesiredState;
beforeEach(() => {
  desired = createDesiredState();
});

it('replaces everything in the same map, without listing single changes', () => {
  const { objects } = desired;
  desired.replace(stateOf([first]), 1);
  desired.replace(stateOf([second]), 2);
  expect(objects).toEqual(stateOf([second]));
  expect(desired.revision()).toBe(2);
  expect(desired.hasChanges()).toBe(false);
});

it('lists removed and added objects as changed until they are taken', () => {
  desired.replace(stateOf([first]), 1);
  desired.patch([first], [second], 2);
  expect(desired.objects).toEqual(stateOf([second]));
  expect(desired.isChanged(keyOf(first))).toBe(true);
  expect(desired.takeChanges()).toEqual(new Set([keyOf(first), keyOf(second)]));
  expect(desired.hasChangedObjects()).toBe(false);
});

it('has work for a revision that changes no object, until that is acknowledged', () => {
  desired.patch([], [], 3);
  expect(desired.hasChangedObjects()).toBe(false);
  expect(desired.hasChanges()).toBe(true);
  desired.markAcknowledged();
  expect(desired.hasChanges()).toBe(false);
});

it('says why a full pass changes the kernel', () => {
  desired.replace(stateOf([first]), 1);
  expect(desired.fullPassReason()).toBe('start');
  desired.markApplied();
  expect(desired.fullPassReason()).toBe('repair');
  desired.replace(stateOf([second]), 2);
  expect(desired.fullPassReason()).toBe('assignment');
});
