import { describe, expect, it } from 'vitest';
import { eventGroups } from '../events/events.ts';
import { allKinds, kindsAudited, kindsRelatedTo } from './registry.ts';

describe('the registry of kinds', () => {
  it('has every kind in exactly one audit class', () => {
    const audited = (['silent', 'costly', 'notified'] as const).flatMap((audit) => kindsAudited(audit));
    expect(audited.sort()).toEqual(allKinds().sort());
  });

  it('observes with a link what the kernel removes together with it', () => {
    expect(kindsRelatedTo('link')).toEqual(expect.arrayContaining(['address', 'neighbour', 'fdb', 'route', 'sysctl']));
    expect(kindsRelatedTo('network')).not.toContain('sysctl');
  });

  it('subscribes to the neighbours of our namespaces, not to those of the host', () => {
    const [inHost, inNetns] = [eventGroups(true), eventGroups(false)];
    expect(inNetns).toEqual(expect.arrayContaining(inHost));
    // RTNLGRP_NEIGH.
    expect(inNetns.filter((group) => !inHost.includes(group)).sort((a, b) => a - b)).toEqual([3]);
  });
});
