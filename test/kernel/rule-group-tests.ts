import assert from 'node:assert/strict';
import { test } from 'node:test';
import { returnTable } from '../../src/model/linux-names.ts';
import { peer } from '../../src/plan/assignments.test-data.ts';
import { applyState, assertListed, assignment, FAMILIES, measureChange, node } from './node.ts';
import { desiredStateOf, NETWORK, runJson, runShell } from './sandbox.ts';

interface ListedRule {
  priority: number;
  fwmark?: string;
  fwmask?: string;
  table?: string;
  goto?: number;
}

/** How many rules the kernel compares with a mark's packet, and which of ours it takes; read from what `ip` lists. */
function evaluateRules(rules: readonly ListedRule[], mark: number): { table?: string | undefined; compared: number } {
  let compared = 0;
  let minPriority = 0;
  for (const { priority, fwmark, fwmask, table, goto } of rules) {
    if (priority < minPriority) continue;
    compared += 1;
    const mask = fwmark === undefined ? 0 : Number(fwmask ?? 0xffffffff);
    if (((mark ^ Number(fwmark ?? 0)) & mask) !== 0 || table === 'local') continue;
    if (goto === undefined) return { table, compared };
    minPriority = goto;
  }
  throw new Error('past the last rule');
}

/** Many commands of `ip` in the router, at the price of one program. */
function runIpBatch(family: string, commands: readonly string[]): string {
  return runShell(`printf '%s\\n' '${commands.join("' '")}' | ip ${family} -n ${NETWORK} -batch -`);
}

/** Hundreds of nodes: the kernel evaluates the planned rules as the plan expects. */
export function testGroups(): void {
  test('300 peers: the way back to each, within 200 comparisons', async () => {
    const before = assignment.peers.map(({ number }) => number);
    // Some below the groups, a whole span, and some far apart.
    const numbers = [
      ...Array.from({ length: 230 }, (_, index) => index + 40),
      ...Array.from({ length: 70 }, (_, index) => 1_024 + index * 270),
    ].filter((number) => !before.includes(number));
    const peers = numbers.map((number) => peer(number, FAMILIES));
    const many = { ...assignment, peers: [...assignment.peers, ...peers] };
    await measureChange(many);
    assertListed();
    for (const [family, ask] of [
      ['-4', 'route get 203.0.113.9'],
      ['-6', 'route get 2001:db8::9'],
    ] as const) {
      const rules = runJson<ListedRule>(`ip ${family} -n ${NETWORK} -j rule show`);
      let worst = 0;
      for (const number of [...before, ...numbers]) {
        const { table, compared } = evaluateRules(rules, number);
        assert.equal(table, String(returnTable(number)), `${family} ${number}`);
        worst = Math.max(worst, compared);
      }
      for (const mark of [1, 30, 64, 3_000, 20_001, 0x1234567]) {
        const { table, compared } = evaluateRules(rules, mark);
        if (!numbers.includes(mark)) assert.equal(table, 'main');
        worst = Math.max(worst, compared);
      }
      assert.ok(worst <= 200, `${worst} comparisons`);
      assert.ok(evaluateRules(rules, 0).compared <= 3);
      // The kernel itself, for every fifth: the route it takes and the table that has it.
      const asked = numbers.filter((_, index) => index % 5 === 0);
      const answers = runIpBatch(
        family,
        asked.map((number) => `${ask} mark ${number}`),
      );
      asked.forEach((number) => {
        const [hop] = peer(number, FAMILIES).blocks.filter(({ family: own }) => (own === 'inet') === (family === '-4'));
        const via = hop!.block.slice(0, hop!.block.indexOf('/'));
        assert.match(answers, new RegExp(`via ${via} dev vxlan0 table ${returnTable(number)} `), `${family} ${number}`);
      });
      assert.doesNotMatch(runIpBatch(family, [`${ask} mark 20001`, ask]), /table 1/);
    }

    // One leaves a group of others, at the price of one: two FDB entries and the peer set; two neighbours, three routes and
    // a rule for each family.
    const without = { ...many, peers: many.peers.filter(({ number }) => number !== 100) };
    const { done } = await measureChange(without);
    assert.ok(done.length <= 15, `${done.length} steps`);
    assert.match(runShell(`ip -n ${NETWORK} route get 203.0.113.9 mark 101`), /table 100101/);
    assert.doesNotMatch(runShell(`ip -n ${NETWORK} route get 203.0.113.9 mark 100`), /table 1/);
    await measureChange(assignment);
    assertListed();
  });

  test('migrates from one long list of rules', async () => {
    const numbers = Array.from({ length: 100 }, (_, index) => index + 50);
    const many = { ...assignment, peers: [...assignment.peers, ...numbers.map((number) => peer(number, FAMILIES))] };
    await measureChange(many);
    for (const family of ['-4', '-6']) {
      const add = numbers
        .slice(14)
        .map((number) => `rule add priority ${10_000 + number} fwmark ${number} lookup ${returnTable(number)}`);
      runIpBatch(family, [...add, 'rule del priority 30100']);
    }
    await applyState(desiredStateOf(many));
    assert.match(runShell(`ip -n ${NETWORK} route get 203.0.113.9 mark 149`), /table 100149/);
    await measureChange(assignment);
    assertListed();
    assert.equal(node.want.size, desiredStateOf(assignment).size);
  });
}
