/*
 * Flows: the node through which each one arrived. The programs of the router share these maps; only they write them.
 *
 * The same client address and port may arrive through several nodes at once, which the task cannot distinguish. The first
 * flow keeps the port and the others get an alias, as conntrack would do. An alias has two entries in mesh_flows: the flow
 * as the task sees it; and the alias itself, keyed by the client's original port and `alias_of`.
 */
#pragma once
#include "packet.h"

struct flow_key {
	__be32 client;
	__be32 task;
	__be16 client_port;
	__be16 task_port;
	__u8 protocol;
	__u8 unused;
	/* 0: the flow as the task sees it; otherwise one more than the node whose client's port has an alias. */
	__u16 alias_of;
};

struct flow {
	/* The node through which it arrived, 0 for this one; or FLOW_STANDARD_PATH. */
	__u16 node;
	/* The client's original port if the task sees an alias, otherwise 0; of an entry with `alias_of`: the alias. */
	__be16 port;
	/*
	 * The sides that have sent FIN; above that, in mesh_edges, the time at which the connection began, or ended if both
	 * have sent FIN (coarse_time).
	 */
	__u32 state;
};

/* Instead of a node: the whole flow takes the standard path, through conntrack. */
#define FLOW_STANDARD_PATH 0xffff

#define FIN_CLIENT 1
#define FIN_TASK 2
#define FIN_BOTH 3
#define FIN_BITS 2

/* Long-lived connections, flows of UDP, and aliases. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow_key);
	__type(value, struct flow);
	__uint(max_entries, 131072);
} mesh_flows SEC(".maps");

/* Connections that are new or over: separate, so that a flood of them cannot evict the others. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow_key);
	__type(value, struct flow);
	__uint(max_entries, 65536);
} mesh_edges SEC(".maps");

/*
 * Time in units of 256 jiffies: 0.26 s if the kernel's HZ is 1000, 1 s with 250, 2.6 s with 100. Jiffies are a memory
 * read; a clock source would be read for each packet of a new connection.
 */
static __always_inline __u32 coarse_time(void)
{
	return bpf_jiffies64() >> 8;
}

/* The state of a connection that begins now, or, with FIN_BOTH, is over now. */
static __always_inline __u32 state_now(__u32 fins)
{
	return coarse_time() << FIN_BITS | fins;
}

static __always_inline struct flow_key key_to_task(const struct iphdr *ip, const struct transport *transport)
{
	return (struct flow_key){
		.client = ip->saddr,
		.task = ip->daddr,
		.client_port = transport->source,
		.task_port = transport->dest,
		.protocol = ip->protocol,
	};
}

static __always_inline struct flow_key key_from_task(const struct iphdr *ip, const struct transport *transport)
{
	return (struct flow_key){
		.client = ip->daddr,
		.task = ip->saddr,
		.client_port = transport->dest,
		.task_port = transport->source,
		.protocol = ip->protocol,
	};
}

/* Records FIN or RST; true if the connection is over by it. */
static __always_inline bool record_end(struct flow *flow, __u8 flags, __u32 side)
{
	if (flags & TCP_RST)
		return true;
	flow->state |= side;
	return (flow->state & FIN_BOTH) == FIN_BOTH;
}

/* FIN or RST of a new connection, whose entry stays in mesh_edges. */
static __always_inline void end_edge(struct flow *edge, __u8 flags, __u32 side)
{
	if (record_end(edge, flags, side))
		edge->state = state_now(FIN_BOTH);
}

/* FIN or RST of a long-lived connection: when it is over, it moves to mesh_edges, where its last segments find it. */
static __always_inline void end_flow(const struct flow_key *key, struct flow *flow, __u8 flags, __u32 side)
{
	if (!record_end(flow, flags, side))
		return;
	struct flow edge = { .node = flow->node, .state = state_now(FIN_BOTH) };
	bpf_map_update_elem(&mesh_edges, key, &edge, BPF_ANY);
	bpf_map_delete_elem(&mesh_flows, key);
}

/* Writes a port of a TCP header (its offset in the frame) and corrects the checksum. Invalidates packet pointers. */
static __always_inline void rewrite_port(struct __sk_buff *skb, __u32 offset, __be16 from, __be16 to)
{
	bpf_l4_csum_replace(skb, IP_END + 16, from, to, sizeof(to));
	bpf_skb_store_bytes(skb, offset, &to, sizeof(to), 0);
}
