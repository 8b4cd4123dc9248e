import { describe, expect, it } from 'vitest';
import { MeshError } from '../../base/errors.ts';
import type { Op } from '../../model/kernel-state.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import { needsVerification, toMeshError } from './failed-operation.ts';

const service: KernelObject = {
  kind: 'virtual-service',
  netns: 'mesh-lb',
  family: 'inet',
  fwmark: 73_616,
  scheduler: 'mh',
};
const create: Op = { verb: 'create', object: service };
const remove: Op = { verb: 'delete', object: service };

describe('a failed operation', () => {
  it("is described as a command, with the kernel's message and a remedy", () => {
    const missing = toMeshError(create, { ok: false, code: 'ENOENT' });
    expect(missing).toMatchObject({ code: 'kernel', retry: false });
    expect(missing.message).toBe(
      'ip netns exec mesh-lb ipvsadm -A -f 73616 -s mh: ENOENT; this kernel has no scheduler mh: try `modprobe ip_vs_mh`',
    );
    expect(toMeshError(remove, { ok: false, code: 'EPERM', text: 'no' }).message).toMatch(/EPERM \(no\); .*root/);
    expect(toMeshError(create, { ok: false, code: 'ENOBUFS', outcomeUnknown: true }).retry).toBe(true);
    const ours = new MeshError('unsupported', 'no IPVS here');
    expect(toMeshError(create, ours)).toMatchObject({ code: 'unsupported', cause: ours });
  });

  it('is verified when the kernel reports that it is so already, or when the outcome is unknown', () => {
    expect(needsVerification(create, { ok: false, code: 'EEXIST' })).toBe(true);
    expect(needsVerification(create, { ok: false, code: 'ENOENT' })).toBe(false);
    expect(needsVerification(remove, { ok: false, code: 'ESRCH' })).toBe(true);
    expect(needsVerification(remove, { ok: false, code: 'EEXIST' })).toBe(false);
    expect(needsVerification(create, { ok: false, code: 'EPERM', outcomeUnknown: true })).toBe(true);
    expect(needsVerification(create, new MeshError('kernel', 'x'))).toBe(false);
  });
});
