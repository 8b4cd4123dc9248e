import type { Result } from '../base/errors.ts';
import { Attributes, NLA_F_NESTED } from './attributes.ts';
import { decodeGenl, genlWriter } from './genetlink.ts';
import { type NetlinkMessage, type NetlinkRequest, NLM_F_REQUEST } from './message.ts';

/** include/uapi/linux/ethtool_netlink.h, since Linux 5.7 */
export const ETHTOOL_GENL_NAME = 'ethtool';
const ETHTOOL_MSG_FEATURES_GET = 11;
const ETHTOOL_MSG_FEATURES_GET_REPLY = 11;
const ETHTOOL_A_FEATURES_HEADER = 1;
const ETHTOOL_A_FEATURES_ACTIVE = 4;
const ETHTOOL_A_HEADER_DEV_NAME = 2;
const ETHTOOL_A_BITSET_BITS = 3;
const ETHTOOL_A_BITSET_BITS_BIT = 1;
const ETHTOOL_A_BITSET_BIT_NAME = 2;
const ALTIFNAMSIZ = 128;

/** `ethtool -k LINK` */
export function getFeatures(genl: number, link: string): NetlinkRequest {
  const writer = genlWriter(ETHTOOL_MSG_FEATURES_GET, 1);
  const payload = writer
    .nested(ETHTOOL_A_FEATURES_HEADER | NLA_F_NESTED, () =>
      writer.putString(ETHTOOL_A_HEADER_DEV_NAME, link, ALTIFNAMSIZ),
    )
    .finish();
  return { type: genl, flags: NLM_F_REQUEST, payload };
}

/** Names of the enabled features. Without a mask a bitset lists only bits that are set (ethnl_put_bitset32). */
export function decodeFeatures(message: NetlinkMessage): Result<Set<string>> {
  return decodeGenl('ethtool features', undefined, [ETHTOOL_MSG_FEATURES_GET_REPLY], message, (attributes) => {
    const bits = attributes.nested(ETHTOOL_A_FEATURES_ACTIVE)?.nested(ETHTOOL_A_BITSET_BITS);
    const names = (bits?.list() ?? [])
      .filter(({ type }) => type === ETHTOOL_A_BITSET_BITS_BIT)
      .map(({ bytes }) => new Attributes(bytes).string(ETHTOOL_A_BITSET_BIT_NAME));
    return new Set(names.filter((name) => name !== undefined));
  });
}
