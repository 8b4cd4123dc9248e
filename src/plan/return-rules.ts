import type { Family } from '../model/address.ts';
import type { Rule } from '../model/kinds/rule.ts';
import { RULE_PRIORITY, returnTable } from '../model/linux-names.ts';

/*
 * fwmark of the node through which a flow arrived → its table. The kernel walks the rules in order for every packet, so
 * hundreds of them are expensive. The priority of a rule depends only on its node's number, so adding or removing a node
 * moves no other rule:
 *
 *  10000  fwmark 0                  goto 32766     requests to tasks: no further rules
 *  10007  fwmark 0x7                lookup 100007  numbers below 64: a flat list, all that a small cluster has
 *  30100  fwmark 0x400/0xfffffc00   goto 30208     a larger number: its span …
 *  30101  everything else           goto 32766
 *  30208  fwmark 0x420/0xffffffe0   goto 31066     … its block …
 *  30209  fwmark 0x400/0xfffffc00   goto 32766
 *  31066  fwmark 0x42b              lookup 101067  … its table
 *  31067  fwmark 0x420/0xffffffe0   goto 32766
 *
 * All rules of a list have one priority: a goto jumps to the first of them, and the kernel changes its target to the next
 * when that one is deleted (fib_nl_delrule, since 4.13). At most 23 spans, 32 blocks in each, 32 numbers in a block: 156
 * comparisons for the worst mark, the kernel's own rules included. All priorities are behind the one long list of earlier
 * versions, so during a migration every mark matches its old rule first, until that rule is removed.
 */

/** Smaller numbers are not grouped: the rules of a small cluster are a flat list. */
const FLAT_LIMIT = 64;
const BLOCK_SIZE = 32;
/** Largest span; those of small numbers are powers of two, so that none contains ungrouped numbers. */
const SPAN_SIZE = 1_024;
const ALL_BITS = 0xffff_ffff;

/** Flows that did not arrive through another node. */
export function unmarkedRule(netns: string, family: Family): Rule {
  const { unmarked, main } = RULE_PRIORITY;
  return rule(netns, family, unmarked, { from: 0, size: 1 }, { goto: main });
}

export function returnRule(netns: string, family: Family, number: number): Rule {
  const priority = number < FLAT_LIMIT ? RULE_PRIORITY.base + number : blockListPriority(number);
  return rule(netns, family, priority, { from: number, size: 1 }, { lookup: returnTable(number) });
}

/** The rules that jump to a node's return rule; shared by all nodes of its block or span. */
export function groupRules(netns: string, family: Family, number: number): Rule[] {
  if (number < FLAT_LIMIT) return [];
  const span = spanOf(number);
  const block = { from: number - (number % BLOCK_SIZE), size: BLOCK_SIZE };
  const list = RULE_PRIORITY.spanLists + 2 * span.index;
  const blockPriority = blockListPriority(number);
  const main = { goto: RULE_PRIORITY.main };
  return [
    rule(netns, family, RULE_PRIORITY.spans, span, { goto: list }),
    rule(netns, family, RULE_PRIORITY.rest, EVERYTHING, main),
    rule(netns, family, list, block, { goto: blockPriority }),
    rule(netns, family, list + 1, span, main),
    rule(netns, family, blockPriority + 1, block, main),
  ];
}

/** Numbers that agree in all but their last bits. `size` is a power of two, `from` a multiple of it. */
interface NumberRange {
  from: number;
  size: number;
}

const EVERYTHING: NumberRange = { from: 0, size: 2 ** 32 };

function spanOf(number: number): NumberRange & { index: number } {
  if (number >= SPAN_SIZE) {
    const index = Math.floor(number / SPAN_SIZE);
    // Four spans (64, 128, 256, 512) precede it.
    return { from: index * SPAN_SIZE, size: SPAN_SIZE, index: index + 3 };
  }
  const bits = 31 - Math.clz32(number);
  return { from: 2 ** bits, size: 2 ** bits, index: bits - Math.log2(FLAT_LIMIT) };
}

function blockListPriority(number: number): number {
  return RULE_PRIORITY.blocks + 2 * Math.floor(number / BLOCK_SIZE);
}

function rule(netns: string, family: Family, priority: number, range: NumberRange, action: Rule['action']): Rule {
  const fwmask = (ALL_BITS - (range.size - 1)) >>> 0;
  return { kind: 'rule', netns, family, priority, fwmark: range.from, fwmask, action };
}
