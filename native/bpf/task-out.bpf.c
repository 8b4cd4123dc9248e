/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * On the router's end of a task's veth: redirects replies of known flows to the node through which the flow arrived, on the
 * VXLAN device with the MAC addresses that routing would use, or into this node's lb. The same for the task's ICMP errors
 * about these flows (port unreachable).
 */
#include "flow.h"
#include "object.h"

/* Ifindexes in the router: vxlan0, and the veth to the lb. */
const volatile __u32 vxlan_link;
const volatile __u32 lb_link;
/* This node's. */
const volatile __u32 node_number;

/*
 * Sends a packet back through `node`. A fragment needs the stack, which reassembles the datagram under the mark of its first
 * fragment and routes it by that mark; this node's own number has no rule, so that the main table applies.
 */
static __always_inline int send(const struct packet *packet, __u32 node, bool is_fragment)
{
	struct __sk_buff *skb = packet->skb;

	if (is_fragment) {
		skb->mark = node ?: node_number;
		return STANDARD_PATH;
	}
	skb->mark = 0;
	return node ? bpf_redirect(vxlan_link, 0) : bpf_redirect_peer(lb_link, 0);
}

/* The addresses with which the stack would send to a VTEP. */
static __always_inline void write_macs(const struct packet *packet, __u32 node)
{
	__be16 dest[] = VTEP_MAC(node), source[] = VTEP_MAC(node_number);

	copy_mac(packet->eth->h_dest, dest);
	copy_mac(packet->eth->h_source, source);
}

/* The task's ICMP error about a packet of a flow. What it quotes may have an alias, which the client does not know. */
static __always_inline int send_error(const struct packet *packet, const struct icmp_error *error)
{
	struct flow_key key = key_to_task(&error->ip, &error->transport);
	bool is_edge;
	struct flow *flow = find_flow(&key, &is_edge);

	if (!flow || flow->node == FLOW_STANDARD_PATH)
		return STANDARD_PATH;
	__u32 node = flow->node;
	__be16 port = flow->port;

	if (node)
		write_macs(packet, node);
	if (port)
		rewrite_quoted_port(packet, offsetof(struct transport, source), key.client_port, port);
	return send(packet, node, false);
}

/* A segment or datagram, or the first fragment of one. */
static __always_inline int from_task(struct packet *packet, bool is_fragment)
{
	struct flow_key key;
	struct flow *flow;
	bool is_edge;
	__u8 flags;

	if (!parse_transport(packet, &flags))
		return STANDARD_PATH;
	key = key_from_task(packet->ip, packet->transport);
	flow = find_flow(&key, &is_edge);
	if (!flow || flow->node == FLOW_STANDARD_PATH)
		return STANDARD_PATH;

	__u32 node = flow->node;
	__be16 port = flow->port;

	if (flags & (TCP_FIN | TCP_RST)) {
		if (is_edge)
			end_edge(flow, flags, FIN_TASK);
		/* An alias stays until the LRU map evicts it: its flow has two entries, whose ends are not counted. */
		else if (!port)
			end_flow(&key, flow, flags, FIN_TASK);
	}
	if (node)
		write_macs(packet, node);
	if (port)
		rewrite_own_port(packet, key.protocol, offsetof(struct transport, dest), key.client_port, port);
	return send(packet, node, is_fragment);
}

/* Fragments, packets with IP options, and ICMP errors. */
static __noinline int unusual(struct __sk_buff *skb)
{
	struct packet packet;
	struct icmp_error *error;

	if (!parse_ipv4(skb, &packet) || !find_transport(&packet))
		return STANDARD_PATH;
	if (packet.ip->protocol != IPPROTO_ICMP)
		return from_task(&packet, is_fragment(packet.ip));
	error = parse_icmp_error(&packet);
	return error ? send_error(&packet, error) : STANDARD_PATH;
}

SEC("tc")
int mesh_task_out(struct __sk_buff *skb)
{
	struct packet packet;

	if (!parse_ipv4(skb, &packet))
		return STANDARD_PATH;
	if (!find_usual_transport(&packet) || packet.ip->protocol == IPPROTO_ICMP)
		return unusual(skb);
	return from_task(&packet, false);
}
