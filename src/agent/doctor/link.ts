import { type Finding, finding } from '../../model/doctor.ts';

/** The interface that carries VXLAN to the other nodes. */
export interface UnderlayFacts {
  address: string;
  /** Undefined when no interface has the address; `mtu`: the smallest of the routes to the other nodes. */
  link?: { name: string; mtu: number; driver?: string; strict: boolean };
  /** Of our VXLAN device, bytes; undefined when there is none. */
  overlayMtu?: number;
  /** Bytes that VXLAN adds to a packet of the overlay. */
  overhead: number;
  /** Features that `ethtool -k` shows as on; undefined when the kernel does not report them. */
  features: ReadonlySet<string> | undefined;
}

/**
 * Drivers whose cards compute wrong checksums for packets inside UDP tunnels: vmxnet3 of VMware ESXi, with VXLAN on a
 * port that the hypervisor does not recognise as a tunnel.
 */
const DRIVERS_WITH_BAD_CHECKSUMS = ['vmxnet3'];
const TUNNEL_OFFLOADS = ['tx-udp_tnl-segmentation', 'tx-udp_tnl-csum-segmentation'];

export function checkUnderlay(facts: UnderlayFacts): Finding[] {
  const { link, address } = facts;
  if (link === undefined) return [finding('error', 'UnderlayAddressMissing', { address })];
  return [
    finding('ok', 'UnderlayAddressPresent', { link: link.name, address }),
    ...checkOffload(facts),
    checkMtu(facts),
  ];
}

function checkMtu({ link, overlayMtu, overhead }: UnderlayFacts): Finding {
  if (link === undefined || overlayMtu === undefined) return finding('error', 'OverlayMissing', {});
  const needed = overlayMtu + overhead;
  const params = { mtu: link.mtu, needed };
  if (needed > link.mtu) return finding('error', 'MtuTooSmall', { ...params, inner: overlayMtu, overhead });
  return needed < link.mtu ? finding('warning', 'MtuUnused', params) : finding('ok', 'MtuMatches', params);
}

function checkOffload({ link, features }: UnderlayFacts): Finding[] {
  if (link === undefined) return [];
  const { name, driver } = link;
  if (driver === undefined || !DRIVERS_WITH_BAD_CHECKSUMS.includes(driver)) {
    return [finding('ok', 'OffloadUnaffected', { link: name, driver: driver ?? 'none' })];
  }
  const on = TUNNEL_OFFLOADS.filter((feature) => features === undefined || features.has(feature));
  if (on.length === 0) return [finding('ok', 'OffloadDisabled', { link: name, driver })];
  const command = `ethtool -K ${name} ${on.map((feature) => `${feature} off`).join(' ')}`;
  return [finding('warning', 'OffloadCorruptsChecksums', { link: name, driver, features: on.join(' and '), command })];
}
