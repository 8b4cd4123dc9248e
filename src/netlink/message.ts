import { err, ok, type Result } from '../base/errors.ts';
import { Attributes, decodeError, LITTLE_ENDIAN, toDecodeResult } from './attributes.ts';
import { errorName } from './errno.ts';

/** A request before the socket gives it a sequence number. */
export interface NetlinkRequest {
  type: number;
  flags: number;
  /** Family header and attributes, without nlmsghdr. */
  payload: Uint8Array;
}

export interface NetlinkMessage {
  type: number;
  flags: number;
  sequence: number;
  portId: number;
  /** A view into the received datagram. */
  payload: Uint8Array;
}

// include/uapi/linux/netlink.h
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;

export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
/** The dumped objects changed meanwhile: the dump may be inconsistent and has to be repeated. */
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_DUMP = 0x300;
const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
const NLM_F_APPEND = 0x800;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;

const NLMSGERR_ATTR_MSG = 1;
const NLMSGERR_ATTR_OFFS = 2;
const NLMSGERR_ATTR_POLICY = 4;
const NLMSGERR_ATTR_MISS_TYPE = 5;
const NLMSGERR_ATTR_MISS_NEST = 6;
// enum netlink_policy_type_attr
const NL_POLICY_TYPE_ATTR_TYPE = 1;
const NL_POLICY_TYPE_ATTR_MIN_VALUE_U = 4;
const NL_POLICY_TYPE_ATTR_MAX_VALUE_U = 5;
const NL_POLICY_TYPE_ATTR_MIN_LENGTH = 6;
const NL_POLICY_TYPE_ATTR_MAX_LENGTH = 7;

/** sizeof(struct nlmsghdr) */
const HEADER = 16;

export type CreateMode = 'create' | 'replace' | 'append' | 'ensure';

/**
 * NEW requests: `create` answers EEXIST when it is there, `replace` overwrites, `append` adds beside what is there,
 * `ensure` leaves what is there to the family (ipset: adding again is no error and updates the entry).
 */
export function createFlags(mode: CreateMode): number {
  switch (mode) {
    case 'create':
      return NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL;
    case 'replace':
      return NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE;
    case 'append':
      return NLM_F_REQUEST | NLM_F_CREATE | NLM_F_APPEND;
    case 'ensure':
      return NLM_F_REQUEST | NLM_F_CREATE;
  }
}

function writeMessage(
  request: NetlinkRequest,
  sequence: number,
  portId: number,
  flags: number,
  bytes: Uint8Array,
  view: DataView,
  at: number,
): void {
  view.setUint32(at, HEADER + request.payload.length, LITTLE_ENDIAN);
  view.setUint16(at + 4, request.type, LITTLE_ENDIAN);
  view.setUint16(at + 6, flags, LITTLE_ENDIAN);
  view.setUint32(at + 8, sequence, LITTLE_ENDIAN);
  view.setUint32(at + 12, portId, LITTLE_ENDIAN);
  bytes.set(request.payload, at + HEADER);
}

/** One request as bytes, padded to 4; flags go out as they are (add NLM_F_ACK to ask for an answer). */
export function encodeMessage(request: NetlinkRequest, sequence: number, portId = 0): Uint8Array {
  const bytes = new Uint8Array(encodedLength(request));
  writeMessage(request, sequence, portId, request.flags, bytes, new DataView(bytes.buffer), 0);
  return bytes;
}

/** Bytes a request takes in a batch. */
export function encodedLength(request: NetlinkRequest): number {
  return HEADER + ((request.payload.length + 3) & ~3);
}

/**
 * Many requests as one datagram; the i-th has sequence `firstSequence + i` (mod 2^32). Which of them ask for an answer:
 * `each`, the `last` (failures answer anyway, with their own sequence number), or `none` beyond what their flags say.
 */
export function encodeBatch(
  requests: readonly NetlinkRequest[],
  firstSequence: number,
  options: { portId?: number; ack?: 'each' | 'last' | 'none' } = {},
): Uint8Array {
  const { portId = 0, ack = 'last' } = options;
  let length = 0;
  for (const request of requests) length += encodedLength(request);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (let i = 0; i < requests.length; i++) {
    const request = requests[i]!;
    const wantsAck = ack === 'each' || (ack === 'last' && i === requests.length - 1);
    const flags = wantsAck ? request.flags | NLM_F_ACK : request.flags;
    writeMessage(request, (firstSequence + i) >>> 0, portId, flags, bytes, view, at);
    at += encodedLength(request);
  }
  return bytes;
}

/** Splits a received datagram. Fails as a whole if a length is invalid or the datagram was truncated on receive. */
export function decodeMessages(datagram: Uint8Array): Result<NetlinkMessage[]> {
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.byteLength);
  const messages: NetlinkMessage[] = [];
  let at = 0;
  while (at < datagram.length) {
    if (datagram.length - at < HEADER) {
      return err(decodeError(`netlink datagram ends with ${datagram.length - at} bytes that are no message`));
    }
    const length = view.getUint32(at, LITTLE_ENDIAN);
    if (length < HEADER || length > datagram.length - at) {
      return err(decodeError(`netlink message at byte ${at} claims ${length} of ${datagram.length - at} bytes`));
    }
    messages.push({
      type: view.getUint16(at + 4, LITTLE_ENDIAN),
      flags: view.getUint16(at + 6, LITTLE_ENDIAN),
      sequence: view.getUint32(at + 8, LITTLE_ENDIAN),
      portId: view.getUint32(at + 12, LITTLE_ENDIAN),
      payload: datagram.subarray(at + HEADER, at + length),
    });
    at += (length + 3) & ~3;
  }
  return ok(messages);
}

/** The answer to a request: NLMSG_ERROR, or NLMSG_DONE at the end of a dump. */
export interface Ack {
  /** Of the request answered. */
  sequence: number;
  /** Positive; 0 is success. */
  errno: number;
  /** `EEXIST`, `IPSET_ERR_BUSY`; `OK` for 0. */
  code: string;
  /** The kernel's explanation (extended ACK). */
  text?: string;
  /** Byte of the request (counted from its nlmsghdr) the kernel complains of. */
  offset?: number;
  /** What the attribute at `offset` should have been. */
  policy?: { type?: number; min?: number; max?: number };
  /** Attribute the kernel misses, and the offset of the nest it should be in. */
  missing?: { type: number; nest?: number };
}

/** Reads NLMSG_ERROR and NLMSG_DONE; any other type is an error. */
export function decodeAck(message: NetlinkMessage): Result<Ack> {
  return toDecodeResult('reply', () => {
    if (message.type !== NLMSG_ERROR && message.type !== NLMSG_DONE)
      throw decodeError(`type ${message.type} is no answer`);
    const { payload } = message;
    const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
    // Some families end dumps with a DONE that has no error in it.
    if (message.type === NLMSG_DONE && payload.length < 4) return { sequence: message.sequence, errno: 0, code: 'OK' };
    if (payload.length < 4) throw decodeError(`${payload.length} bytes are too few for an error number`);
    const errno = Math.abs(view.getInt32(0, LITTLE_ENDIAN));
    const ack: Ack = { sequence: message.sequence, errno, code: errorName(errno) };
    if ((message.flags & NLM_F_ACK_TLVS) !== 0)
      readExtendedAck(ack, new Attributes(payload, attributesOffset(message, errno, view)));
    return ack;
  });
}

/** Attributes follow the request's header, or the whole request when the kernel echoes it (failures without CAP_ACK). */
function attributesOffset(message: NetlinkMessage, errno: number, view: DataView): number {
  if (message.type === NLMSG_DONE) return 4;
  if (view.byteLength < 4 + HEADER) throw decodeError(`${view.byteLength} bytes are too few for the request's header`);
  const echoed = errno !== 0 && (message.flags & NLM_F_CAPPED) === 0 ? view.getUint32(4, LITTLE_ENDIAN) : HEADER;
  if (echoed > view.byteLength) throw decodeError(`an echoed request of ${echoed} bytes in ${view.byteLength}`);
  return 4 + ((Math.max(echoed, HEADER) + 3) & ~3);
}

function readExtendedAck(ack: Ack, attributes: Attributes): void {
  const text = attributes.string(NLMSGERR_ATTR_MSG);
  if (text !== undefined && text !== '') ack.text = text;
  const offset = attributes.u32(NLMSGERR_ATTR_OFFS);
  if (offset !== undefined) ack.offset = offset;
  const policy = attributes.nested(NLMSGERR_ATTR_POLICY);
  if (policy !== undefined) {
    const type = policy.u32(NL_POLICY_TYPE_ATTR_TYPE);
    const min = policy.u64(NL_POLICY_TYPE_ATTR_MIN_VALUE_U) ?? policy.u32(NL_POLICY_TYPE_ATTR_MIN_LENGTH);
    const max = policy.u64(NL_POLICY_TYPE_ATTR_MAX_VALUE_U) ?? policy.u32(NL_POLICY_TYPE_ATTR_MAX_LENGTH);
    ack.policy = {
      ...(type === undefined ? {} : { type }),
      ...(min === undefined ? {} : { min }),
      ...(max === undefined ? {} : { max }),
    };
  }
  const missing = attributes.u32(NLMSGERR_ATTR_MISS_TYPE);
  if (missing !== undefined) {
    const nest = attributes.u32(NLMSGERR_ATTR_MISS_NEST);
    ack.missing = nest === undefined ? { type: missing } : { type: missing, nest };
  }
}
