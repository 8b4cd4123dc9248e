import { HOST_NETNS } from '../../model/linux-names.ts';
import { decodeFeatures, ETHTOOL_GENL_NAME, getFeatures } from '../../netlink/ethtool.ts';
import { decodeGenlFamily, getGenlFamily } from '../../netlink/genetlink.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { openNamespaces } from '../driver/namespaces.ts';
import { NETLINK_GENERIC, openTransport } from '../driver/transport.ts';

/** Names of the features of a link of the host that are on; undefined on kernels before 5.7 and for a link that is not there. */
export async function readLinkFeatures(link: string): Promise<ReadonlySet<string> | undefined> {
  const transport = openTransport(openNamespaces('/run/netns'), { sends: 0, messages: 0, bytes: 0 });
  try {
    const [found] = await transport.transact(HOST_NETNS, NETLINK_GENERIC, [getGenlFamily(ETHTOOL_GENL_NAME)]);
    const [family] = found?.ok ? decodeAll(found.replies, decodeGenlFamily) : [];
    if (family === undefined) return undefined;
    const [answer] = await transport.transact(HOST_NETNS, NETLINK_GENERIC, [getFeatures(family.id, link)]);
    return answer?.ok ? decodeAll(answer.replies, decodeFeatures)[0] : undefined;
  } finally {
    transport.close();
  }
}
