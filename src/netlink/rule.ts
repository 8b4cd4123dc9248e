import type { Result } from '../base/errors.ts';
import type { Cidr, Family } from '../model/address.ts';
import type { PortRange, RuleAction } from '../model/policy-rule.ts';
import { Attributes, AttributeWriter, decodeError, LITTLE_ENDIAN } from './attributes.ts';
import { AF_UNSPEC, familyName, familyNumber, formatAddress, parseCidr } from './ip.ts';
import { createFlags, type NetlinkMessage, type NetlinkRequest, NLM_F_DUMP, NLM_F_REQUEST } from './message.ts';
import { decodeWithHeader, RTM_DELRULE, RTM_GETRULE, RTM_NEWRULE } from './rtnetlink.ts';

// include/uapi/linux/fib_rules.h
const FRA_DST = 1;
const FRA_SRC = 2;
const FRA_IIFNAME = 3;
const FRA_GOTO = 4;
const FRA_PRIORITY = 6;
const FRA_FWMARK = 10;
const FRA_SUPPRESS_PREFIXLEN = 14;
const FRA_TABLE = 15;
const FRA_FWMASK = 16;
const FRA_PROTOCOL = 21;
const FRA_IP_PROTO = 22;
const FRA_SPORT_RANGE = 23;
const FRA_DPORT_RANGE = 24;
/** Attributes by which a rule selects and which are decoded as part of it. */
const FRA_DECODED_SELECTORS = [FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_IP_PROTO, FRA_SPORT_RANGE, FRA_DPORT_RANGE];
/** Further ones, or what limits the result: FLOW, TUN_ID, SUPPRESS_IFGROUP, OIFNAME, L3MDEV, UID_RANGE, DSCP, FLOWLABEL. */
const FRA_FURTHER_SELECTORS = [11, 12, 13, 17, 19, 20, 25, 26];
/** FRA_SPORT_MASK and FRA_DPORT_MASK, since 6.15: all bits of a rule that compares whole ports. */
const FRA_PORT_MASKS = [28, 29];
/** Flag in the header: the rule matches what its selectors do not. */
const FIB_RULE_INVERT = 2;
const ACTIONS = { nop: 3, blackhole: 6, unreachable: 7, prohibit: 8 } as const satisfies Record<
  RuleAction & string,
  number
>;
const FR_ACT_TO_TBL = 1;
const FR_ACT_GOTO = 2;
/** FRA_SUPPRESS_PREFIXLEN of rules that suppress nothing; the kernel always sends it. */
const SUPPRESS_NOTHING = 0xffff_ffff;
/** sizeof(struct fib_rule_hdr) */
const FIB_RULE_HDR = 12;

export interface RuleSpec {
  family: Family;
  priority: number;
  source?: Cidr | undefined;
  destination?: Cidr | undefined;
  fwmark?: number | undefined;
  /** Without it the kernel compares all 32 bits. */
  fwmask?: number | undefined;
  ipProtocol?: number | undefined;
  sourcePorts?: PortRange | undefined;
  destinationPorts?: PortRange | undefined;
  suppressPrefix?: number | undefined;
  action: RuleAction;
  /** Who made the rule, numbers as for routes. */
  protocol?: number | undefined;
}

/** Which rule to delete: fields not given match any. */
type RuleSelector = Omit<RuleSpec, 'action'> & Partial<Pick<RuleSpec, 'action'>>;

export interface RuleEntry {
  family: Family;
  priority: number;
  source?: Cidr;
  destination?: Cidr;
  fwmark: number;
  /** 0 when the rule does not select by mark. */
  fwmask: number;
  /** Name of the link that packets arrive on; `lo`: packets of this netns itself. */
  inputLink?: string;
  ipProtocol?: number;
  sourcePorts?: PortRange;
  destinationPorts?: PortRange;
  suppressPrefix?: number;
  inverted?: true;
  /** `other` for actions that the kernel may get. */
  action: RuleAction | 'other';
  protocol: number;
  /** Selects by more than the fwmark (addresses, devices, ports …). */
  otherSelectors: boolean;
  /** Selects by more than the fields above. */
  furtherSelectors?: true;
}

function writeRule(rule: RuleSelector): AttributeWriter {
  const { action } = rule;
  const lookup = typeof action === 'object' && 'lookup' in action ? action.lookup : undefined;
  const code = actionCode(action);
  const table = lookup ?? 0;
  const source = rule.source === undefined ? undefined : parseCidr(rule.source);
  const destination = rule.destination === undefined ? undefined : parseCidr(rule.destination);
  const writer = new AttributeWriter(128)
    .u8(familyNumber(rule.family))
    .u8(destination?.prefix ?? 0)
    .u8(source?.prefix ?? 0)
    .zeros(1);
  writer
    .u8(table < 256 ? table : 0)
    .zeros(2)
    .u8(code)
    .u32(0);
  if (destination !== undefined) writer.put(FRA_DST, destination.bytes);
  if (source !== undefined) writer.put(FRA_SRC, source.bytes);
  if (rule.fwmark !== undefined) writer.putU32(FRA_FWMARK, rule.fwmark);
  if (rule.suppressPrefix !== undefined) writer.putU32(FRA_SUPPRESS_PREFIXLEN, rule.suppressPrefix);
  if (rule.fwmask !== undefined) writer.putU32(FRA_FWMASK, rule.fwmask);
  if (table > 255) writer.putU32(FRA_TABLE, table);
  if (typeof action === 'object' && 'goto' in action) writer.putU32(FRA_GOTO, action.goto);
  writer.putU32(FRA_PRIORITY, rule.priority);
  if (rule.protocol !== undefined) writer.putU8(FRA_PROTOCOL, rule.protocol);
  if (rule.ipProtocol !== undefined) writer.putU8(FRA_IP_PROTO, rule.ipProtocol);
  if (rule.sourcePorts !== undefined) writer.put(FRA_SPORT_RANGE, rangeBytes(rule.sourcePorts));
  if (rule.destinationPorts !== undefined) writer.put(FRA_DPORT_RANGE, rangeBytes(rule.destinationPorts));
  return writer;
}

/** struct fib_rule_port_range, in machine order. */
function rangeBytes({ from, to }: PortRange): Uint8Array {
  return new AttributeWriter(4).u16(from).u16(to).finish();
}

function readRange(bytes: Uint8Array | undefined): PortRange | undefined {
  if (bytes === undefined) return undefined;
  if (bytes.length < 4) throw decodeError(`port range of ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return { from: view.getUint16(0, LITTLE_ENDIAN), to: view.getUint16(2, LITTLE_ENDIAN) };
}

/** 0 matches any action (rule_find, net/core/fib_rules.c). */
function actionCode(action: RuleAction | undefined): number {
  if (action === undefined) return 0;
  if (typeof action === 'string') return ACTIONS[action];
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
    const [destinationPrefix, sourcePrefix, tos] = [view.getUint8(1), view.getUint8(2), view.getUint8(3)];
    const suppressPrefix = attributes.u32(FRA_SUPPRESS_PREFIXLEN) ?? SUPPRESS_NOTHING;
    const isFurther =
      tos !== 0 ||
      FRA_FURTHER_SELECTORS.some((type) => attributes.has(type)) ||
      FRA_PORT_MASKS.some((type) => (attributes.u16(type) ?? 0xffff) !== 0xffff);
    const isInverted = (view.getUint32(8, LITTLE_ENDIAN) & FIB_RULE_INVERT) !== 0;
    return {
      family: familyName(view.getUint8(0)),
      priority: attributes.u32(FRA_PRIORITY) ?? 0,
      fwmark: attributes.u32(FRA_FWMARK) ?? 0,
      fwmask: attributes.u32(FRA_FWMASK) ?? 0,
      ...given('source', readNetwork(attributes.bytes(FRA_SRC), sourcePrefix)),
      ...given('destination', readNetwork(attributes.bytes(FRA_DST), destinationPrefix)),
      ...given('inputLink', attributes.string(FRA_IIFNAME)),
      ...given('ipProtocol', attributes.u8(FRA_IP_PROTO)),
      ...given('sourcePorts', readRange(attributes.bytes(FRA_SPORT_RANGE))),
      ...given('destinationPorts', readRange(attributes.bytes(FRA_DPORT_RANGE))),
      ...given('suppressPrefix', suppressPrefix === SUPPRESS_NOTHING ? undefined : suppressPrefix),
      ...given('inverted', isInverted || undefined),
      action: readAction(code, attributes.u32(FRA_TABLE) ?? view.getUint8(4), attributes.u32(FRA_GOTO) ?? 0),
      protocol: attributes.u8(FRA_PROTOCOL) ?? 0,
      otherSelectors: isFurther || isInverted || FRA_DECODED_SELECTORS.some((type) => attributes.has(type)),
      ...given('furtherSelectors', isFurther || undefined),
    };
  });
}

function given<K extends string, V>(name: K, value: V | undefined): { [key in K]?: V } {
  return value === undefined ? {} : ({ [name]: value } as { [key in K]?: V });
}

function readNetwork(address: Uint8Array | undefined, prefix: number): Cidr | undefined {
  return address === undefined ? undefined : `${formatAddress(address)}/${prefix}`;
}

function readAction(code: number, table: number, target: number): RuleAction | 'other' {
  if (code === FR_ACT_TO_TBL) return { lookup: table };
  if (code === FR_ACT_GOTO) return { goto: target };
  return ACTION_NAMES.get(code) ?? 'other';
}

const ACTION_NAMES = new Map(
  Object.entries(ACTIONS).map(([name, code]) => [code as number, name as keyof typeof ACTIONS]),
);
