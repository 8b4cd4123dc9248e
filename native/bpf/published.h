/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Published ports of the node's address, and flows of others that have one as their source. */
#pragma once
#include "packet.h"

/* Whether a published port may have been in use by programs of the host when it was published. */
#define PORT_UNKNOWN 1
#define PORT_UNUSED 2

/* Published ports by fwmark, with one of these values, which only meshd writes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 65536);
} mesh_ports SEC(".maps");

/*
 * By number, 1 for each port from which the host has sent while it was published, TCP and UDP alike. Only host-sent writes it:
 * beside the value of mesh_ports, an update by meshd could undo what host-sent has just written. A map of its own, which
 * programs read without a call (BPF_PSEUDO_MAP_VALUE).
 */
__u8 sent_from[65536] SEC(".data.sent_from");

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

/* Where the port of a fwmark is in sent_from. The verifier of Linux 6.1 knows no bounds of a swapped number. */
static __always_inline __u32 port_of(__u32 mark)
{
	barrier_var(mark);
	return mark & 0xffff;
}
