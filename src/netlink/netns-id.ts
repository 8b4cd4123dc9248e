import type { Result } from '../base/errors.ts';
import { Attributes, AttributeWriter } from './attributes.ts';
import type { NetnsReference } from './link-kind.ts';
import { type NetlinkMessage, type NetlinkRequest, NLM_F_DUMP, NLM_F_REQUEST } from './message.ts';
import { decodeWithHeader, RTM_DELNSID, RTM_GETNSID, RTM_NEWNSID } from './rtnetlink.ts';

// include/uapi/linux/net_namespace.h
const NETNSA_NSID = 1;
const NETNSA_PID = 2;
const NETNSA_FD = 3;
/** In NEWNSID: the kernel chooses the id. In replies: there is none. */
const NSID_NONE = -1;
/** struct rtgenmsg padded to 4. */
const RTGENMSG = 4;

function writeNetnsReference(netns: NetnsReference): AttributeWriter {
  const writer = new AttributeWriter(32).zeros(RTGENMSG);
  return 'fd' in netns ? writer.putU32(NETNSA_FD, netns.fd) : writer.putU32(NETNSA_PID, netns.pid);
}

/** `ip netns set`: assigns another netns an id in the socket's netns; EEXIST if it has one already. */
export function newNetnsId(netns: NetnsReference, id = NSID_NONE): NetlinkRequest {
  const payload = writeNetnsReference(netns)
    .putU32(NETNSA_NSID, id >>> 0)
    .finish();
  return { type: RTM_NEWNSID, flags: NLM_F_REQUEST, payload };
}

/** Requests the id of another netns in the socket's netns; replies with one RTM_NEWNSID, NSID_NONE if it has none. */
export function getNetnsId(netns: NetnsReference): NetlinkRequest {
  return { type: RTM_GETNSID, flags: NLM_F_REQUEST, payload: writeNetnsReference(netns).finish() };
}

/** `ip netns list-id`. */
export function dumpNetnsIds(): NetlinkRequest {
  const payload = new AttributeWriter(8).zeros(RTGENMSG).finish();
  return { type: RTM_GETNSID, flags: NLM_F_REQUEST | NLM_F_DUMP, payload };
}

/** The id in RTM_NEWNSID and RTM_DELNSID. */
export function decodeNetnsId(message: NetlinkMessage): Result<{ id: number }> {
  return decodeWithHeader('netns id', [RTM_NEWNSID, RTM_DELNSID], RTGENMSG, message, (_view, payload) => {
    return { id: new Attributes(payload, RTGENMSG).i32(NETNSA_NSID) ?? NSID_NONE };
  });
}
