/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * On the router's vxlan0, lb0 and host0: redirects packets to tasks of this node directly into the task, and records for
 * each flow the node that forwarded it: the mark is its number (0 is this node's own lb).
 *
 * TCP: SYN creates an entry in mesh_edges; after some seconds it moves to mesh_flows, and back when the connection is over
 * (FIN of both sides, or RST). Connections whose SYN was not seen belong to conntrack: the standard path. UDP has no
 * handshake: the first packet creates the entry. A further flow of the same client port, through another node, gets an
 * alias. ICMP errors follow the flow that they are about.
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

/* What becomes of a packet to a task. */
enum step {
	DELIVER,
	/* Its flow begins. */
	BEGIN,
	/* Its client port belongs to another flow, or it belongs to no flow. */
	ALIAS,
};

/* A fragment needs the stack, which reassembles the datagram under the mark of its first fragment (inet_frag_reasm_prepare). */
static __always_inline int deliver(struct __sk_buff *skb, bool is_fragment, __u32 link)
{
	if (is_fragment) {
		skb->mark = KNOWN_FLOW;
		return STANDARD_PATH;
	}
	skb->mark = 0;
	return bpf_redirect_peer(link, 0);
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
 * The port under which the task sees a client whose own is used by another flow: the alias of its flow; a SYN or datagram
 * creates one. 0 if there is none.
 */
static __noinline __be16 alias_port(const struct flow_key *key, __u32 node, bool begins)
{
	struct flow_key seen_key = *key, of_node = *key;
	struct flow seen = { .node = node, .port = key->client_port, .state = coarse_time() };
	struct flow chosen = {};
	struct flow *alias, *known;

	of_node.alias_of = node + 1;
	alias = bpf_map_lookup_elem(&mesh_flows, &of_node);
	if (alias) {
		seen_key.client_port = alias->port;
		known = bpf_map_lookup_elem(&mesh_flows, &seen_key);
		if (known && known->node == node && known->port == key->client_port) {
			if (known->state != seen.state)
				known->state = seen.state;
			return seen_key.client_port;
		}
		/* Evicted, or after minutes of silence in use by another flow. */
		if (!known && !bpf_map_lookup_elem(&mesh_edges, &seen_key) &&
		    !bpf_map_update_elem(&mesh_flows, &seen_key, &seen, BPF_NOEXIST))
			return seen_key.client_port;
		seen_key.client_port = key->client_port;
	}
	if (!begins || !choose_alias(&seen_key, &seen))
		return 0;
	chosen.port = seen_key.client_port;
	bpf_map_update_elem(&mesh_flows, &of_node, &chosen, BPF_ANY);
	return chosen.port;
}

/* A segment of no known flow: conntrack handles it, and the entry records that the port is in use. */
static __noinline void record_unknown(const struct flow_key *key)
{
	struct flow unknown = { .node = FLOW_STANDARD_PATH, .port = FLOW_STANDARD_PATH };

	/* Does not replace an entry of another node's long-lived connection. */
	if (!bpf_map_lookup_elem(&mesh_flows, key))
		bpf_map_update_elem(&mesh_edges, key, &unknown, BPF_NOEXIST);
}

static __always_inline void move_to_flows(const struct flow_key *key, const struct flow *edge)
{
	struct flow flow = { .node = edge->node, .state = edge->state & FIN_BOTH };

	if (!bpf_map_update_elem(&mesh_flows, key, &flow, BPF_ANY))
		bpf_map_delete_elem(&mesh_edges, key);
}

static __always_inline enum step datagram(const struct flow_key *key, __u32 node)
{
	struct flow *flow = bpf_map_lookup_elem(&mesh_flows, key);
	__u32 now = coarse_time();

	if (!flow)
		return BEGIN;
	if (!is_of(flow, node))
		return now - flow->state < CLOSED_LIFETIME ? ALIAS : BEGIN;
	if (flow->state != now)
		flow->state = now;
	return DELIVER;
}

static __always_inline enum step segment(const struct flow_key *key, __u32 node, __u8 flags)
{
	bool is_edge;
	struct flow *flow = find_flow(key, &is_edge);
	__u32 now, fins;

	if (!flow)
		return flags & TCP_SYN ? BEGIN : ALIAS;
	fins = flow->state & FIN_BOTH;
	if (!is_of(flow, node)) {
		/* The port is free some minutes after the connection was over. */
		now = coarse_time();
		return is_edge && flow->node != FLOW_STANDARD_PATH && fins == FIN_BOTH && flags & TCP_SYN &&
				       now - (flow->state >> FIN_BITS) >= CLOSED_LIFETIME ?
			       BEGIN :
			       ALIAS;
	}
	if (flags & (TCP_FIN | TCP_RST)) {
		if (is_edge)
			end_edge(flow, flags, FIN_CLIENT);
		else
			end_flow(key, flow, flags, FIN_CLIENT);
	} else if (flags & TCP_SYN) {
		flow->state = state_now(0);
	} else if (is_edge && fins != FIN_BOTH) {
		now = coarse_time();
		if (now - (flow->state >> FIN_BITS) >= LONG_LIVED_AGE)
			move_to_flows(key, flow);
	}
	return DELIVER;
}

/* An error about a packet that a task has sent. What it quotes has the client's original port, which the task may not know. */
static __always_inline int error_to_task(const struct packet *packet, const struct icmp_error *error, __u32 node)
{
	struct flow_key key = key_from_task(&error->ip, &error->transport);
	__u32 *link = bpf_map_lookup_elem(&mesh_tasks, &key.task);
	__be16 original = key.client_port;
	bool is_edge;

	if (!link)
		return STANDARD_PATH;
	struct flow *flow = find_flow(&key, &is_edge);
	if (!flow || !is_of(flow, node)) {
		key.alias_of = node + 1;
		flow = bpf_map_lookup_elem(&mesh_flows, &key);
		if (!flow)
			return STANDARD_PATH;
		rewrite_quoted_port(packet, offsetof(struct transport, dest), original, flow->port);
	}
	return deliver(packet->skb, false, *link);
}

/* A segment or datagram, or the first fragment of one, that `node` has forwarded. */
static __always_inline int to_task(struct packet *packet, __u32 node, bool is_fragment)
{
	struct flow_key key;
	__u32 *link;
	__u8 flags;

	if (!parse_transport(packet, &flags))
		return STANDARD_PATH;
	key = key_to_task(packet->ip, packet->transport);
	link = bpf_map_lookup_elem(&mesh_tasks, &key.task);
	if (!link)
		return STANDARD_PATH;

	bool is_udp = key.protocol == IPPROTO_UDP;
	enum step step = is_udp ? datagram(&key, node) : segment(&key, node, flags);

	if (step == BEGIN) {
		struct flow flow = { .node = node, .state = is_udp ? coarse_time() : state_now(0) };
		/* If an LRU map cannot evict, the flow is conntrack's. */
		if (bpf_map_update_elem(is_udp ? (void *)&mesh_flows : (void *)&mesh_edges, &key, &flow, BPF_ANY))
			return STANDARD_PATH;
	} else if (step == ALIAS) {
		bool begins = is_udp || flags & TCP_SYN;
		__be16 port = alias_port(&key, node, begins);
		if (!port) {
			/* No port was free: the client sends again. Conntrack would not know which ones are in use. */
			if (begins)
				return TC_ACT_SHOT;
			record_unknown(&key);
			return STANDARD_PATH;
		}
		rewrite_own_port(packet, key.protocol, offsetof(struct transport, source), key.client_port, port);
	}
	return deliver(packet->skb, is_fragment, *link);
}

/* Fragments, packets with IP options, and ICMP errors. */
static __noinline int unusual(struct __sk_buff *skb)
{
	struct packet packet;
	struct icmp_error *error;

	if (!parse_ipv4(skb, &packet) || !find_transport(&packet))
		return STANDARD_PATH;
	if (packet.ip->protocol != IPPROTO_ICMP)
		return to_task(&packet, skb->mark, is_fragment(packet.ip));
	error = parse_icmp_error(&packet);
	return error ? error_to_task(&packet, error, skb->mark) : STANDARD_PATH;
}

SEC("tc")
int mesh_router_in(struct __sk_buff *skb)
{
	struct packet packet;
	__u32 node = skb->mark;

	/* A mark of another program is no node's number. */
	if (node >= FLOW_STANDARD_PATH || !parse_ipv4(skb, &packet))
		return STANDARD_PATH;
	if (!find_usual_transport(&packet) || packet.ip->protocol == IPPROTO_ICMP)
		return unusual(skb);
	return to_task(&packet, node, false);
}
