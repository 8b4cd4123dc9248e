import { error, type Finding, ok, warning } from '../../model/doctor.ts';

/** The interface that carries VXLAN to the other nodes. */
export interface UnderlayFacts {
  address: string;
  /** Undefined when no interface has the address. */
  link?: { name: string; mtu: number; driver?: string; strict: boolean };
  /** Of our VXLAN device, bytes; undefined when there is none. */
  overlayMtu?: number;
  /** What a packet grows by on the wire: outer Ethernet, IP, UDP and VXLAN headers, bytes. */
  overhead: number;
  /** What is on of `ethtool -k`; undefined when the kernel does not tell. */
  features: ReadonlySet<string> | undefined;
}

/**
 * Drivers whose cards compute wrong checksums for packets inside UDP tunnels: vmxnet3 of VMware ESXi, with VXLAN on a
 * port that the hypervisor does not take for a tunnel.
 */
const DRIVERS_WITH_BAD_CHECKSUMS = ['vmxnet3'];
const TUNNEL_OFFLOADS = ['tx-udp_tnl-segmentation', 'tx-udp_tnl-csum-segmentation'];

export function checkUnderlay(facts: UnderlayFacts): Finding[] {
  const { link, address, overlayMtu, overhead } = facts;
  if (link === undefined) {
    return [
      error(
        'underlay',
        `no interface of this node has ${address}, to which the others send VXLAN`,
        `ip addr add ${address} dev …, or start meshd with --advertise and an address it has`,
      ),
    ];
  }
  const findings = [ok('underlay', `${link.name} has ${address}`), ...checkOffload(facts)];
  if (overlayMtu === undefined) {
    findings.push(error('mtu', 'there is no VXLAN device yet', 'meshctl diff self; meshctl node inspect self'));
    return findings;
  }
  const needed = overlayMtu + overhead;
  if (needed > link.mtu) {
    findings.push(
      error(
        'mtu',
        `${link.name} takes packets of ${link.mtu} bytes, the overlay makes such of ${needed} (${overlayMtu} + ${overhead}): long ones are cut up or lost`,
        `ip link set dev ${link.name} mtu ${needed}, or systemctl restart meshd on this node to have the overlay follow`,
      ),
    );
  } else if (needed < link.mtu) {
    findings.push(
      warning(
        'mtu',
        `${link.name} takes packets of ${link.mtu} bytes, the overlay uses ${needed} of them`,
        'systemctl restart meshd on this node to have the overlay follow',
      ),
    );
  } else findings.push(ok('mtu', `${link.name} takes ${link.mtu} bytes, the overlay makes ${needed}`));
  return findings;
}

function checkOffload({ link, features }: UnderlayFacts): Finding[] {
  if (link === undefined) return [];
  const { name, driver } = link;
  if (driver === undefined || !DRIVERS_WITH_BAD_CHECKSUMS.includes(driver)) {
    return [ok('offload', `${name} (${driver ?? 'no driver of its own'}) is not known to spoil checksums in tunnels`)];
  }
  const on = TUNNEL_OFFLOADS.filter((feature) => features === undefined || features.has(feature));
  if (on.length === 0) return [ok('offload', `${name} (${driver}): checksums in tunnels are computed by the kernel`)];
  return [
    warning(
      'offload',
      `${name} is a ${driver}, which is known to send packets in VXLAN with wrong checksums while ${on.join(' and ')} are on`,
      `ethtool -K ${name} ${on.map((feature) => `${feature} off`).join(' ')}`,
    ),
  ];
}
