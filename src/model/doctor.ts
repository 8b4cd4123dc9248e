import type { IpAddress } from './address.ts';
import { boundedParams, type CodedText, fillTemplate, type ParamNames, renderUnknown } from './coded-text.ts';
import { CONDITIONS, type ConditionCode, isConditionCode } from './condition.ts';
import { FINDING_TEXTS } from './finding-texts.ts';

export type FindingLevel = 'ok' | 'warning' | 'error';

/** One thing the doctor examined; `code` is a FindingCode, a ConditionCode, or one of a newer version. */
export interface Finding extends CodedText {
  level: FindingLevel;
}

export type FindingCode = keyof typeof FINDING_TEXTS | ConditionCode;

type Texts<C extends FindingCode> = C extends ConditionCode
  ? (typeof CONDITIONS)[C]
  : (typeof FINDING_TEXTS)[Exclude<C, ConditionCode>];
type Templates<C extends FindingCode> = Texts<C>['text'] | (Texts<C> extends { remedy: infer R } ? R & string : never);
export type FindingParams<C extends FindingCode> = Record<ParamNames<Templates<C>>, string | number>;

export function finding<C extends FindingCode>(level: FindingLevel, code: C, params: FindingParams<C>): Finding {
  return { level, code, params: boundedParams(params) };
}

/** A finding for people. */
export interface RenderedFinding extends Finding {
  /** What kind of thing, one word: `sysctl`, `mtu`, `path` … */
  check: string;
  what: string;
  /** A command to type, or what to do; empty when nothing has to be done. */
  remedy: string;
}

export function renderFinding(reported: Finding): RenderedFinding {
  const { code, params } = reported;
  const texts = textsOf(code);
  if (texts === undefined) return { ...reported, check: 'other', what: renderUnknown(reported), remedy: '' };
  const { check, text, remedy = '' } = texts;
  return { ...reported, check, what: fillTemplate(text, params), remedy: fillTemplate(remedy, params) };
}

function textsOf(code: string): { check: string; text: string; remedy?: string } | undefined {
  if (Object.hasOwn(FINDING_TEXTS, code)) return FINDING_TEXTS[code as keyof typeof FINDING_TEXTS];
  return isConditionCode(code) ? { check: 'condition', ...CONDITIONS[code] } : undefined;
}

/** What a node found out about itself, and how it reaches the others. */
export interface DoctorReport {
  /** Wall clock when the question came, and how long the answer took, ms. */
  now: number;
  took: number;
  version: string;
  findings: Finding[];
  /** Bytes of one packet inside the overlay; undefined before it exists. */
  overlayMtu?: number | undefined;
  echoes: EchoResult[];
}

/** ICMP echo from this node's VTEP to another's, so that VXLAN, FDB, packet filters and MTU are all on the way. */
export interface EchoResult {
  nodeId: string;
  underlay: IpAddress;
  /** Milliseconds; undefined when no answer came. */
  small?: number | undefined;
  /** The same with as many bytes as the overlay carries, and DF. */
  full?: number | undefined;
}
