import type { Result } from '../base/errors.ts';
import { Attributes, AttributeWriter, decodeError, toDecodeResult } from './attributes.ts';
import { type NetlinkMessage, type NetlinkRequest, NLM_F_REQUEST } from './message.ts';

// include/uapi/linux/genetlink.h
const GENL_ID_CTRL = 16;
const CTRL_CMD_NEWFAMILY = 1;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR_FAMILY_ID = 1;
const CTRL_ATTR_FAMILY_NAME = 2;
const CTRL_ATTR_VERSION = 3;
const GENL_NAMSIZ = 16;
/** sizeof(struct genlmsghdr) */
const GENL_HEADER = 4;

/** A writer that starts with genlmsghdr. */
export function genlWriter(command: number, version: number, capacity?: number): AttributeWriter {
  return new AttributeWriter(capacity).u8(command).u8(version).u16(0);
}

/**
 * Requests the id of a family by name (`IPVS`), which is its message type. ENOENT means there is no such family, after the
 * kernel has tried to load the module `net-pf-16-proto-16-family-NAME`.
 */
export function getGenlFamily(name: string): NetlinkRequest {
  const payload = genlWriter(CTRL_CMD_GETFAMILY, 1, 32).putString(CTRL_ATTR_FAMILY_NAME, name, GENL_NAMSIZ).finish();
  return { type: GENL_ID_CTRL, flags: NLM_F_REQUEST, payload };
}

export interface GenlFamily {
  id: number;
  name: string;
  version: number;
}

/** Reads the reply to getGenlFamily. */
export function decodeGenlFamily(message: NetlinkMessage): Result<GenlFamily> {
  return decodeGenl('generic netlink family', GENL_ID_CTRL, [CTRL_CMD_NEWFAMILY], message, (attributes) => {
    const id = attributes.u16(CTRL_ATTR_FAMILY_ID);
    if (id === undefined) throw decodeError('missing family id');
    return {
      id,
      name: attributes.string(CTRL_ATTR_FAMILY_NAME) ?? '',
      version: attributes.u32(CTRL_ATTR_VERSION) ?? 0,
    };
  });
}

/** Decodes messages of a family (any when `family` is undefined) and of the given commands only. */
export function decodeGenl<T>(
  kind: string,
  family: number | undefined,
  commands: readonly number[],
  message: NetlinkMessage,
  body: (attributes: Attributes) => T,
): Result<T> {
  return toDecodeResult(kind, () => {
    if (family !== undefined && message.type !== family) throw decodeError(`type ${message.type} instead of ${family}`);
    const { payload } = message;
    if (payload.length < GENL_HEADER)
      throw decodeError(`${payload.length} bytes are shorter than the header of ${GENL_HEADER}`);
    if (!commands.includes(payload[0]!))
      throw decodeError(`command ${payload[0]} is not one of ${commands.join(', ')}`);
    return body(new Attributes(payload, GENL_HEADER));
  });
}
