import type { Family } from './address.ts';

/**
 * Bytes that VXLAN adds to an inner packet, by the family of the underlay: outer IP header (20 or 40), UDP (8), VXLAN (8)
 * and the inner Ethernet header (14); VXLAN_HEADROOM and VXLAN6_HEADROOM in include/net/vxlan.h.
 */
export const VXLAN_OVERHEAD: Readonly<Record<Family, number>> = { inet: 50, inet6: 70 };
