import { describe, expect, it } from 'vitest';
import { CAPABILITIES, resolvePrivileges } from './capabilities.ts';

const DEFAULT = resolvePrivileges({}).capabilities;

describe('resolvePrivileges', () => {
  it('grants a small set by default, which no set-user-id program can exceed', () => {
    expect(resolvePrivileges({})).toEqual({ capabilities: DEFAULT, ambient: [], newPrivileges: false });
    expect(DEFAULT).toHaveLength(13);
    for (const name of ['SYS_ADMIN', 'NET_ADMIN', 'SYS_PTRACE', 'SYS_MODULE', 'MKNOD'] as const)
      expect(DEFAULT).not.toContain(name);
  });

  it('adds and drops by name', () => {
    const { capabilities, ambient } = resolvePrivileges({ capAdd: ['NET_ADMIN', 'CHOWN'], capDrop: ['NET_RAW'] });
    expect(new Set(capabilities)).toEqual(new Set([...DEFAULT.filter((name) => name !== 'NET_RAW'), 'NET_ADMIN']));
    expect(ambient).toEqual(['CHOWN', 'NET_ADMIN']);
  });

  it('accepts ALL with the other list as exceptions', () => {
    expect(resolvePrivileges({ capDrop: ['ALL'] }).capabilities).toEqual([]);
    expect(resolvePrivileges({ capDrop: ['ALL'], capAdd: ['NET_RAW'] }).capabilities).toEqual(['NET_RAW']);
    expect(resolvePrivileges({ capAdd: ['ALL'] }).capabilities).toEqual(CAPABILITIES);
    expect(resolvePrivileges({ capAdd: ['ALL'], capDrop: ['SYS_BOOT'] })).toEqual({
      capabilities: CAPABILITIES.filter((name) => name !== 'SYS_BOOT'),
      ambient: CAPABILITIES.filter((name) => name !== 'SYS_BOOT'),
      newPrivileges: false,
    });
  });

  it('grants every capability to a privileged task', () => {
    expect(resolvePrivileges({ privileged: true })).toEqual({
      capabilities: CAPABILITIES,
      ambient: [],
      newPrivileges: true,
    });
  });
});
