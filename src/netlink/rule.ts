import type { Result } from '../base/errors.ts';
import type { Family } from '../model/address.ts';
import { Attributes, AttributeWriter } from './attributes.ts';
import { AF_UNSPEC, familyName, familyNumber } from './ip.ts';
import { createFlags, type NetlinkMessage, type NetlinkRequest, NLM_F_DUMP, NLM_F_REQUEST } from './message.ts';
import { decodeWithHeader, RTM_DELRULE, RTM_GETRULE, RTM_NEWRULE } from './rtnetlink.ts';

// include/uapi/linux/fib_rules.h
const FRA_GOTO = 4;
const FRA_PRIORITY = 6;
const FRA_FWMARK = 10;
const FRA_TABLE = 15;
const FRA_FWMASK = 16;
const FRA_PROTOCOL = 21;
/** Attributes whose presence means that the rule selects by more than a fwmark: DST, SRC, IIFNAME, FLOW, TUN_ID, OIFNAME, L3MDEV, UID_RANGE, IP_PROTO, SPORT, DPORT, DSCP. */
const FRA_OTHER_SELECTORS = [1, 2, 3, 11, 12, 17, 19, 20, 22, 23, 24, 25];
const FR_ACT_TO_TBL = 1;
const FR_ACT_GOTO = 2;
const FR_ACT_NOP = 3;
/** sizeof(struct fib_rule_hdr) */
const FIB_RULE_HDR = 12;

type RuleAction = { lookup: number } | { goto: number } | 'nop';

export interface RuleSpec {
  family: Family;
  priority: number;
  fwmark?: number | undefined;
  /** Without it the kernel compares all 32 bits. */
  fwmask?: number | undefined;
  action: RuleAction;
  /** Who made the rule, numbers as for routes. */
  protocol?: number | undefined;
}

/** Which rule to delete: fields not given match any. */
type RuleSelector = Omit<RuleSpec, 'action'> & Partial<Pick<RuleSpec, 'action'>>;

export interface RuleEntry {
  family: Family;
  priority: number;
  fwmark: number;
  /** 0 when the rule does not select by mark. */
  fwmask: number;
  /** `other` for blackhole, unreachable, prohibit. */
  action: RuleAction | 'other';
  protocol: number;
  /** Selects by more than the fwmark (addresses, devices, ports …). */
  otherSelectors: boolean;
}

function writeRule(rule: RuleSelector): AttributeWriter {
  const { action } = rule;
  const lookup = typeof action === 'object' && 'lookup' in action ? action.lookup : undefined;
  const code = actionCode(action);
  const table = lookup ?? 0;
  const writer = new AttributeWriter(80).u8(familyNumber(rule.family)).zeros(3);
  writer
    .u8(table < 256 ? table : 0)
    .zeros(2)
    .u8(code)
    .u32(0);
  if (rule.fwmark !== undefined) writer.putU32(FRA_FWMARK, rule.fwmark);
  if (rule.fwmask !== undefined) writer.putU32(FRA_FWMASK, rule.fwmask);
  if (table > 255) writer.putU32(FRA_TABLE, table);
  if (typeof action === 'object' && 'goto' in action) writer.putU32(FRA_GOTO, action.goto);
  writer.putU32(FRA_PRIORITY, rule.priority);
  if (rule.protocol !== undefined) writer.putU8(FRA_PROTOCOL, rule.protocol);
  return writer;
}

/** 0 matches any action (rule_find, net/core/fib_rules.c). */
function actionCode(action: RuleAction | undefined): number {
  if (action === undefined) return 0;
  if (action === 'nop') return FR_ACT_NOP;
  return 'lookup' in action ? FR_ACT_TO_TBL : FR_ACT_GOTO;
}

/** `ip rule add`. EEXIST compares the whole rule, not the priority. */
export function newRule(rule: RuleSpec): NetlinkRequest {
  return { type: RTM_NEWRULE, flags: createFlags('create'), payload: writeRule(rule).finish() };
}

/** `ip rule del`: deletes the first rule that agrees in all fields given. */
export function deleteRule(rule: RuleSelector): NetlinkRequest {
  return { type: RTM_DELRULE, flags: NLM_F_REQUEST, payload: writeRule(rule).finish() };
}

/** `ip rule show`; without a family also those of multicast routing, which decodeRule refuses. */
export function dumpRules(family?: Family): NetlinkRequest {
  const payload = new AttributeWriter(16)
    .u8(family === undefined ? AF_UNSPEC : familyNumber(family))
    .zeros(FIB_RULE_HDR - 1);
  return { type: RTM_GETRULE, flags: NLM_F_REQUEST | NLM_F_DUMP, payload: payload.finish() };
}

/** Reads RTM_NEWRULE and RTM_DELRULE of IPv4 and IPv6. */
export function decodeRule(message: NetlinkMessage): Result<RuleEntry> {
  return decodeWithHeader('rule', [RTM_NEWRULE, RTM_DELRULE], FIB_RULE_HDR, message, (view, payload) => {
    const attributes = new Attributes(payload, FIB_RULE_HDR);
    const code = view.getUint8(7);
    const hasAddress = view.getUint8(1) !== 0 || view.getUint8(2) !== 0 || view.getUint8(3) !== 0;
    return {
      family: familyName(view.getUint8(0)),
      priority: attributes.u32(FRA_PRIORITY) ?? 0,
      fwmark: attributes.u32(FRA_FWMARK) ?? 0,
      fwmask: attributes.u32(FRA_FWMASK) ?? 0,
      action: readAction(code, attributes.u32(FRA_TABLE) ?? view.getUint8(4), attributes.u32(FRA_GOTO) ?? 0),
      protocol: attributes.u8(FRA_PROTOCOL) ?? 0,
      otherSelectors: hasAddress || FRA_OTHER_SELECTORS.some((type) => attributes.has(type)),
    };
  });
}

function readAction(code: number, table: number, target: number): RuleAction | 'other' {
  if (code === FR_ACT_TO_TBL) return { lookup: table };
  if (code === FR_ACT_GOTO) return { goto: target };
  return code === FR_ACT_NOP ? 'nop' : 'other';
}
