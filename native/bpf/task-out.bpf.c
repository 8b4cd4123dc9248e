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

/* Sends a reply back; `port` is the client's original one if the task used an alias. Invalidates packet pointers. */
static __always_inline int send(const struct packet *packet, __u16 node, __be16 alias, __be16 port)
{
	struct __sk_buff *skb = packet->skb;

	skb->mark = 0;
	if (node) {
		__be16 dest[] = VTEP_MAC(node), source[] = VTEP_MAC(node_number);

		copy_mac(packet->eth->h_dest, dest);
		copy_mac(packet->eth->h_source, source);
	}
	if (port)
		rewrite_port(skb, IP_END + offsetof(struct transport, dest), alias, port);
	return node ? bpf_redirect(vxlan_link, 0) : bpf_redirect_peer(lb_link, 0);
}

/* The task's ICMP error about a packet of a flow. What it quotes has the alias, which the client does not know. */
static __always_inline int send_error(const struct packet *packet, const struct icmp_error *error)
{
	struct flow_key key = key_to_task(&error->ip, &error->transport);
	struct flow *flow = NULL;

	if (key.protocol != IPPROTO_UDP)
		flow = bpf_map_lookup_elem(&mesh_edges, &key);
	if (!flow)
		flow = bpf_map_lookup_elem(&mesh_flows, &key);
	if (!flow || flow->node == FLOW_STANDARD_PATH || flow->port)
		return STANDARD_PATH;
	return send(packet, flow->node, 0, 0);
}

SEC("tc")
int mesh_task_out(struct __sk_buff *skb)
{
	struct packet packet;
	struct flow_key key;
	struct flow *flow = NULL;
	struct icmp_error *error;
	bool is_edge;
	__u8 flags;

	if (!parse_ipv4(skb, &packet))
		return STANDARD_PATH;
	if (!parse_transport(&packet, &flags)) {
		error = packet.ip->protocol == IPPROTO_ICMP ? parse_icmp_error(&packet) : NULL;
		return error ? send_error(&packet, error) : STANDARD_PATH;
	}
	key = key_from_task(packet.ip, packet.transport);
	if (key.protocol == IPPROTO_TCP)
		flow = bpf_map_lookup_elem(&mesh_edges, &key);
	is_edge = flow;
	if (!flow)
		flow = bpf_map_lookup_elem(&mesh_flows, &key);
	if (!flow || flow->node == FLOW_STANDARD_PATH)
		return STANDARD_PATH;

	__u16 node = flow->node;
	__be16 port = flow->port;

	if (flags & (TCP_FIN | TCP_RST)) {
		if (is_edge)
			end_edge(flow, flags, FIN_TASK);
		/* An alias stays until the LRU map evicts it: its flow has two entries, whose ends are not counted. */
		else if (!port)
			end_flow(&key, flow, flags, FIN_TASK);
	}
	return send(&packet, node, key.client_port, port);
}
