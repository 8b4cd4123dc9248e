/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Flows: the node through which each one arrived. The programs of the router share these maps; only they write them. What a
 * program knows of a flow and cannot redirect itself (fragments), it hands to the stack with a mark: the router does not
 * track such packets, and routes those of tasks by it. So a flow has one owner for all its packets, these maps or conntrack.
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
	__u16 protocol;
	/* 0: the flow as the task sees it; otherwise one more than the node whose client's port has an alias. */
	__u16 alias_of;
};

struct flow {
	/* The node through which it arrived, 0 for this one; or FLOW_STANDARD_PATH, which is above all nodes' numbers. */
	__u16 node;
	/* The client's original port if the task sees an alias, otherwise 0; of an entry with `alias_of`: the alias. */
	__be16 port;
	/*
	 * TCP: the sides that have sent FIN; above that, in mesh_edges, the time at which the connection began, or ended if
	 * both have sent FIN. UDP: the time of the client's last packet. See coarse_time.
	 */
	__u32 state;
};

/* Instead of a node: the whole flow belongs to conntrack, and takes the standard path. */
#define FLOW_STANDARD_PATH 0xffff

/* Mark of a packet to a task whose flow is in these maps (KNOWN_FLOW_MARK in src/model/linux-names.ts): no node's number. */
#define KNOWN_FLOW 0x10000

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

/* The flow as the task sees it. Connections are looked up where they begin; datagrams have no beginning. */
static __always_inline struct flow *find_flow(const struct flow_key *key, bool *is_edge)
{
	struct flow *flow = NULL;

	if (key->protocol == IPPROTO_TCP)
		flow = bpf_map_lookup_elem(&mesh_edges, key);
	*is_edge = flow;
	return flow ?: bpf_map_lookup_elem(&mesh_flows, key);
}

/* Whether an entry is that of a flow through this node, and not the alias of one. */
static __always_inline bool is_of(const struct flow *flow, __u32 node)
{
	return flow->node == node && !flow->port;
}

/*
 * Records FIN or RST; true if the connection is over by it. Not atomic: if both sides end at the same moment on two
 * processors, one end may be lost, and the entry stays until the LRU map evicts it.
 */
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

/*
 * Replaces a port at `offset` of the frame and corrects a checksum over it: that of a transport header, or of an ICMP
 * message that quotes it. Invalidates packet pointers.
 */
static __always_inline void rewrite_port(struct __sk_buff *skb, __u32 offset, __be16 from, __be16 to, __u32 checksum,
					 __u64 flags)
{
	bpf_l4_csum_replace(skb, checksum, from, to, flags | sizeof(to));
	bpf_skb_store_bytes(skb, offset, &to, sizeof(to), 0);
}

/* The same in the transport header of a packet; `field` is the port's offset in it. A datagram may have no checksum. */
static __always_inline void rewrite_own_port(const struct packet *packet, __u8 protocol, __u32 field, __be16 from,
					     __be16 to)
{
	__u32 at = transport_offset(packet);
	bool is_tcp = protocol == IPPROTO_TCP;

	rewrite_port(packet->skb, at + field, from, to, at + (is_tcp ? 16 : offsetof(struct udphdr, check)),
		     is_tcp ? 0 : BPF_F_MARK_MANGLED_0);
}

/* The same in the packet that an ICMP error quotes. */
static __always_inline void rewrite_quoted_port(const struct packet *packet, __u32 field, __be16 from, __be16 to)
{
	__u32 at = transport_offset(packet);

	rewrite_port(packet->skb, at + offsetof(struct icmp_error, transport) + field, from, to,
		     at + offsetof(struct icmp_error, checksum), 0);
}
