/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Published ports of the node's address, and flows of others that have one as their source. */
#pragma once
#include "packet.h"

/* The fwmarks of published ports: a set, the value is unused. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u8);
	__uint(max_entries, 65536);
} mesh_ports SEC(".maps");

/* A flow that the host has translated to the node's address and to a published port of it. */
struct sent_key {
	__be32 peer;
	__be16 peer_port;
	__be16 port;
	__u8 protocol;
	__u8 unused[3];
};

/* A set. host-sent writes it, host-in reads it. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct sent_key);
	__type(value, __u8);
	__uint(max_entries, 32768);
} mesh_sent SEC(".maps");

/* As portMark in src/model/linux-names.ts; 0 for other protocols. */
static __always_inline __u32 port_mark(__u8 protocol, __be16 port)
{
	if (protocol == IPPROTO_TCP)
		return 1 << 16 | bpf_ntohs(port);
	if (protocol == IPPROTO_UDP)
		return 2 << 16 | bpf_ntohs(port);
	return 0;
}

/* The mark of a port if it is published; otherwise 0. */
static __always_inline __u32 published_port(__u8 protocol, __be16 port)
{
	__u32 mark = port_mark(protocol, port);

	return bpf_map_lookup_elem(&mesh_ports, &mark) ? mark : 0;
}
