/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * On the host's end of the veth to the lb: replies whose source already is the node's address, because their requests were
 * redirected by host-in, are sent on the link that the host's routes select, fragments too. Everything else (replies that
 * need the DNAT reversed, other families, routes other than unicast) takes the standard path. The TTL stays: the lb has
 * decremented it, and a packet cannot come back here without passing another router.
 */
#include "object.h"
#include "packet.h"

#define AF_INET 2

/* The node's underlay address. */
const volatile __be32 own_address;

SEC("tc")
int mesh_host_out(struct __sk_buff *skb)
{
	struct packet packet;

	if (!parse_ipv4(skb, &packet) || packet.ip->saddr != own_address)
		return STANDARD_PATH;

	/* tot_len stays 0: the kernel would report that a packet exceeds the MTU which segmentation offload splits later. */
	struct bpf_fib_lookup route = {
		.family = AF_INET,
		.l4_protocol = packet.ip->protocol,
		.tos = packet.ip->tos,
		.ipv4_src = packet.ip->saddr,
		.ipv4_dst = packet.ip->daddr,
		.ifindex = skb->ingress_ifindex,
	};
	/* All fragments of a datagram take one route. */
	if ((packet.ip->protocol == IPPROTO_TCP || packet.ip->protocol == IPPROTO_UDP) && !is_fragment(packet.ip) &&
	    find_transport(&packet)) {
		route.sport = packet.transport->source;
		route.dport = packet.transport->dest;
	}
	long result = bpf_fib_lookup(skb, &route, sizeof(route), 0);

	/* The route leads back into the lb: left to the standard path. */
	if (route.ifindex == skb->ingress_ifindex)
		return STANDARD_PATH;
	/* The kernel resolves the neighbour and queues the packet until then. */
	if (result == BPF_FIB_LKUP_RET_NO_NEIGH)
		return bpf_redirect_neigh(route.ifindex, NULL, 0, 0);
	if (result != BPF_FIB_LKUP_RET_SUCCESS || !is_readable(&packet, IP_START))
		return STANDARD_PATH;
	copy_mac(packet.eth->h_dest, route.dmac);
	copy_mac(packet.eth->h_source, route.smac);
	return bpf_redirect(route.ifindex, 0);
}
