/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * On the host's underlay link, for packets that leave: records which published ports the host itself sends from, and of flows
 * of containers and virtual machines, which the host has translated to the node's address and such a port, the flow. Their
 * answers look like packets of clients to that port; host-in leaves them to the standard path, whose conntrack knows them.
 * Any port may be one that masquerading has chosen: it keeps that of the container, or takes another from 1024 on
 * (nf_nat_l4proto_unique_tuple).
 */
#include "object.h"
#include "packet.h"
#include "published.h"

/* The node's underlay address. */
const volatile __be32 own_address;
/* Ifindex of the host's end of the veth to the lb. */
const volatile __u32 lb_link;

SEC("tc")
int mesh_host_sent(struct __sk_buff *skb)
{
	struct packet packet;
	__u8 member = 1;
	__u32 mark;

	/* VXLAN of the lb, whose packets no socket has sent; or an answer of a published port. */
	if ((!skb->ingress_ifindex && !skb->sk) || skb->ingress_ifindex == lb_link)
		return STANDARD_PATH;
	if (!parse_ipv4(skb, &packet) || packet.ip->saddr != own_address || !find_transport(&packet))
		return STANDARD_PATH;
	mark = port_mark(packet.ip->protocol, packet.transport->source);
	if (!bpf_map_lookup_elem(&mesh_ports, &mark))
		return STANDARD_PATH;

	struct sent_key sent = {
		.peer = packet.ip->daddr,
		.peer_port = packet.transport->dest,
		.port = packet.transport->source,
		.protocol = packet.ip->protocol,
	};
	/* Host-in finds sockets itself. A lookup is what keeps an entry of an LRU map. */
	if (skb->ingress_ifindex && !bpf_map_lookup_elem(&mesh_sent, &sent))
		bpf_map_update_elem(&mesh_sent, &sent, &member, BPF_ANY);
	sent_from[port_of(mark)] = 1;
	return STANDARD_PATH;
}
