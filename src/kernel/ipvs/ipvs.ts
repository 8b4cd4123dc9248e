import { MeshError } from '../../base/errors.ts';
import type { VirtualService } from '../../model/kinds/virtual-service.ts';
import { HOST_NETNS, markedPort } from '../../model/linux-names.ts';
import { decodeGenlFamily, getGenlFamily } from '../../netlink/genetlink.ts';
import { IPVS_GENL_NAME, type ServiceKey } from '../../netlink/ipvs.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { NETLINK_GENERIC, type Transport } from '../driver/transport.ts';

/** The number of the IPVS family of generic netlink, looked up once. */
export interface IpvsFamily {
  /** Undefined when this kernel has no IPVS; asking loads the module where it can be loaded. */
  find(): Promise<number | undefined>;
  /** Like `find`, but throws an error with the remedy. */
  require(): Promise<number>;
}

/** Finds the IPVS family through the host netns: generic netlink families are numbered once for the whole kernel. */
export function openIpvsFamily(transport: Transport): IpvsFamily {
  let cachedId: number | undefined;
  async function find(): Promise<number | undefined> {
    if (cachedId !== undefined) return cachedId;
    const [outcome] = await transport.transact(HOST_NETNS, NETLINK_GENERIC, [getGenlFamily(IPVS_GENL_NAME)]);
    const [family] = outcome?.ok ? decodeAll(outcome.replies, decodeGenlFamily) : [];
    cachedId = family?.id;
    return cachedId;
  }
  return {
    find,
    async require() {
      const id = await find();
      if (id !== undefined) return id;
      throw new MeshError(
        'unsupported',
        'the kernel has no IPVS: run `modprobe ip_vs` (Debian: package linux-image-amd64, not the cloud kernel)',
      );
    },
  };
}

/** How the kernel finds a service of ours. */
export function ipvsKey({ family, fwmark, at }: Pick<VirtualService, 'family' | 'fwmark' | 'at'>): ServiceKey {
  const port = markedPort(fwmark);
  if (at === undefined || port === undefined) return { family, fwmark };
  return { protocol: port.protocol, address: at, port: port.published };
}
