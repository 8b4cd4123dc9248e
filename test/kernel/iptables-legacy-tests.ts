import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import {
  type FirewallOp,
  firewallObjects,
  formatIptablesRestore,
  parseIptablesSave,
} from '../../src/kernel/firewall/firewall-text.ts';
import type { FirewallChain } from '../../src/model/kinds/chain.ts';
import type { FirewallJump } from '../../src/model/kinds/jump.ts';
import { parseFirewallRule } from '../../src/model/kinds/parse-firewall-rule.ts';
import type { KernelObject } from '../../src/model/kinds/registry.ts';
import { runShell } from './sandbox.ts';

/** The firewall's text against the other of the two iptables, whichever this host uses. */
export function testLegacyFirewall(): void {
  test('reads and writes iptables-legacy as well', () => {
    const place = { netns: 'host', family: 'inet', table: 'mangle' } as const;
    const jump: FirewallJump = {
      kind: 'jump',
      ...place,
      from: 'FORWARD',
      chain: 'MESH-T',
      match: '',
      position: 'first',
    };
    const rules = ['-o vxlan0 -j MARK --set-xmark 0x1/0xffffffff', '-j RETURN'];
    const chain: FirewallChain = { kind: 'chain', ...place, chain: 'MESH-T', rules: rules.map(parseFirewallRule) };
    const ops: FirewallOp[] = [
      { verb: 'create', object: chain },
      { verb: 'create', object: jump },
    ];
    const save = () => parseIptablesSave(runShell('iptables-legacy-save -t mangle'));
    const restore = (steps: readonly FirewallOp[]) => {
      const input = formatIptablesRestore(steps, save());
      execFileSync('iptables-legacy-restore', ['--noflush', '-w'], { input });
      return firewallObjects('host', 'inet', save(), () => undefined);
    };
    const byKind = (objects: readonly KernelObject[]) => objects.map(({ kind }) => kind).sort();
    for (let i = 0; i < 2; i++) {
      const found = restore(ops);
      assert.deepEqual(byKind(found), ['chain', 'jump']);
      for (const { object } of ops)
        assert.deepEqual(
          found.find(({ kind }) => kind === object.kind),
          object,
        );
    }
    assert.deepEqual(restore(ops.map(({ object }) => ({ verb: 'delete', object }) as FirewallOp)), []);
  });
}
