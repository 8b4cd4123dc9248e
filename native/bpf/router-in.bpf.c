/*
 * On the router's vxlan0, lb0 and host0: redirects packets to tasks of this node directly into the task, and records for
 * each flow the node that forwarded it: the mark is its number (0 is this node's own lb).
 *
 * TCP: SYN creates an entry in mesh_edges; after some seconds it moves to mesh_flows, and back when the connection is over
 * (FIN of both sides, or RST). Connections whose SYN was not seen belong to conntrack: the standard path. UDP has no
 * handshake: the first packet creates the entry; if another node forwards the same flow, both take the standard path.
 */
#include "flow.h"
#include "object.h"

/* How long a task may keep an ended connection (TCP_TIMEWAIT_LEN twice), in the shortest units of coarse_time. */
#define CLOSED_LIFETIME 470
/* Age at which a connection moves to mesh_flows, in units of coarse_time: most short connections never do. */
#define LONG_LIVED_AGE 2
/* Ports tried for an alias; if all are in use, the flow takes the standard path. */
#define ALIAS_ATTEMPTS 4
/* Aliases are this port or above. */
#define MIN_ALIAS 0x8000

/* Address of a task of this node → ifindex of the router's end of its veth. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __be32);
	__type(value, __u32);
	__uint(max_entries, 4096);
} mesh_tasks SEC(".maps");

static __always_inline int to_task(struct __sk_buff *skb, __u32 link)
{
	skb->mark = 0;
	return bpf_redirect_peer(link, 0);
}

/* Stores a flow that begins. If an LRU map cannot evict, replies take the standard path, which then needs conntrack too. */
static __always_inline int begin(struct __sk_buff *skb, void *map, const struct flow_key *key, __u32 node, __u32 state,
				 __u32 link)
{
	struct flow flow = { .node = node, .state = state };

	return bpf_map_update_elem(map, key, &flow, BPF_ANY) ? STANDARD_PATH : to_task(skb, link);
}

static __always_inline int datagram(struct __sk_buff *skb, const struct flow_key *key, __u32 node, __u32 link)
{
	struct flow *flow = bpf_map_lookup_elem(&mesh_flows, key);

	if (!flow)
		return begin(skb, &mesh_flows, key, node, 0, link);
	if (flow->node == node)
		return to_task(skb, link);
	flow->node = FLOW_STANDARD_PATH;
	return STANDARD_PATH;
}

/* Finds a port for a client whose own is used by another flow to the task; `key` becomes the flow as the task sees it. */
static __always_inline bool choose_alias(struct flow_key *key, const struct flow *seen)
{
	for (int attempt = 0; attempt < ALIAS_ATTEMPTS; attempt++) {
		key->client_port = bpf_htons(bpf_get_prandom_u32() | MIN_ALIAS);
		if (!bpf_map_lookup_elem(&mesh_edges, key) && !bpf_map_update_elem(&mesh_flows, key, seen, BPF_NOEXIST))
			return true;
	}
	return false;
}

/*
 * A TCP segment whose client port is used by another flow to the task. Continues with its alias; a SYN creates one. Other
 * segments belong to no known flow: conntrack handles them, and the entry records that.
 */
static __always_inline int aliased(struct __sk_buff *skb, struct flow_key *key, __u8 flags, __u32 node, __u32 link)
{
	__be16 original = key->client_port;
	struct flow_key of_node = *key;
	struct flow seen = { .node = node, .port = original };
	struct flow *alias;

	of_node.alias_of = node + 1;
	alias = bpf_map_lookup_elem(&mesh_flows, &of_node);
	if (alias) {
		key->client_port = alias->port;
		if (flags & TCP_SYN)
			bpf_map_update_elem(&mesh_flows, key, &seen, BPF_ANY);
	} else if (flags & TCP_SYN) {
		if (!choose_alias(key, &seen))
			return STANDARD_PATH;
		struct flow chosen = { .port = key->client_port };
		bpf_map_update_elem(&mesh_flows, &of_node, &chosen, BPF_ANY);
	} else {
		struct flow unknown = { .node = FLOW_STANDARD_PATH, .port = FLOW_STANDARD_PATH };
		/* Does not replace an entry of another node's long-lived connection. */
		if (!bpf_map_lookup_elem(&mesh_flows, key))
			bpf_map_update_elem(&mesh_edges, key, &unknown, BPF_NOEXIST);
		return STANDARD_PATH;
	}
	rewrite_port(skb, IP_END + offsetof(struct transport, source), original, key->client_port);
	return to_task(skb, link);
}

static __always_inline void move_to_flows(const struct flow_key *key, const struct flow *edge)
{
	struct flow flow = { .node = edge->node, .state = edge->state & FIN_BOTH };

	if (!bpf_map_update_elem(&mesh_flows, key, &flow, BPF_ANY))
		bpf_map_delete_elem(&mesh_edges, key);
}

static __always_inline int segment(struct __sk_buff *skb, struct flow_key *key, __u8 flags, __u32 node, __u32 link)
{
	struct flow *flow = bpf_map_lookup_elem(&mesh_edges, key);
	bool is_edge = flow;

	if (!flow)
		flow = bpf_map_lookup_elem(&mesh_flows, key);
	if (flow && flow->node == node) {
		if (flags & (TCP_FIN | TCP_RST)) {
			if (is_edge)
				end_edge(flow, flags, FIN_CLIENT);
			else
				end_flow(key, flow, flags, FIN_CLIENT);
		} else if (flags & TCP_SYN) {
			flow->state = state_now(0);
		} else if (is_edge && (flow->state & FIN_BOTH) != FIN_BOTH &&
			   coarse_time() - (flow->state >> FIN_BITS) >= LONG_LIVED_AGE) {
			move_to_flows(key, flow);
		}
		return to_task(skb, link);
	}
	/* Of another node: its port is free some minutes after the connection was over. */
	bool is_free = !flow || (is_edge && flow->node != FLOW_STANDARD_PATH && (flow->state & FIN_BOTH) == FIN_BOTH &&
				 coarse_time() - (flow->state >> FIN_BITS) >= CLOSED_LIFETIME);
	if (is_free && flags & TCP_SYN)
		return begin(skb, &mesh_edges, key, node, state_now(0), link);
	return aliased(skb, key, flags, node, link);
}

SEC("tc")
int mesh_router_in(struct __sk_buff *skb)
{
	struct packet packet;
	struct flow_key key;
	__u32 *link;
	__u8 flags;

	if (!parse_ipv4(skb, &packet) || !parse_transport(&packet, &flags))
		return STANDARD_PATH;
	key = key_to_task(packet.ip, packet.transport);
	link = bpf_map_lookup_elem(&mesh_tasks, &key.task);
	if (!link)
		return STANDARD_PATH;
	if (key.protocol == IPPROTO_UDP)
		return datagram(skb, &key, skb->mark, *link);
	return segment(skb, &key, flags, skb->mark, *link);
}
