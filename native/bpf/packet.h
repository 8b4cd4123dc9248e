/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Packets: what every program reads of a frame, and how it hands one on. */
#pragma once
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* include/net/ip.h: more fragments follow, and the place of this one in its datagram. */
#define IP_MF 0x2000
#define IP_OFFSET 0x1fff

/* Flags in the 14th byte of a TCP header. */
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04

/*
 * The packet takes the standard path. Unlike TC_ACT_OK, the next filters still see it (cls_bpf_classify), so that those of
 * other programs get all packets that ours do not handle.
 */
#define STANDARD_PATH TC_ACT_UNSPEC

/* The part of a transport header that all programs need: both TCP and UDP have at least as much. */
struct transport {
	__be16 source;
	__be16 dest;
	__u8 rest[4];
};

/* RFC 7348, and draft-smith-vxlan-group-policy for the first two fields. */
struct vxlan_header {
	__be16 flags;
	__be16 policy;
	__be32 vni; /* in the upper three bytes */
};

/* include/uapi/linux/icmp.h, which needs headers of the C library: the types that quote the original packet. */
#define ICMP_DEST_UNREACH 3
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12

/* An ICMP error: RFC 792 quotes at least eight bytes behind the IP header, the ports among them. */
struct icmp_error {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 info;
	struct iphdr ip;
	struct transport transport;
};

/* VTEP addresses are 02:6d:65:73 and the node's number (vtepMac in src/model/identifiers.ts). */
#define VTEP_MAC(number) { bpf_htons(0x026d), bpf_htons(0x6573), bpf_htons(number) }

#define IP_START sizeof(struct ethhdr)
/* The least that a frame of IPv4 has. */
#define MIN_LENGTH (IP_START + sizeof(struct iphdr))
/* IP options included. */
#define MAX_IP_HEADER 60
#define TCP_HEADER 20

/* An IPv4 packet. */
struct packet {
	struct __sk_buff *skb;
	void *data;
	void *end;
	struct ethhdr *eth;
	struct iphdr *ip;
	/* See find_transport. */
	struct transport *transport;
};

/* An Ethernet address; three words, because byte arrays would be copied byte by byte. */
static __always_inline void copy_mac(void *to, const void *from)
{
	__u16 *words = to;
	const __u16 *source = from;

	words[0] = source[0];
	words[1] = source[1];
	words[2] = source[2];
}

/* Whether that many bytes of the frame can be read directly. */
static __always_inline bool is_readable(const struct packet *packet, __u32 bytes)
{
	return packet->data + bytes <= packet->end;
}

static __always_inline void load_pointers(struct packet *packet)
{
	packet->data = (void *)(long)packet->skb->data;
	packet->end = (void *)(long)packet->skb->data_end;
	packet->eth = packet->data;
	packet->ip = packet->data + IP_START;
}

/*
 * Makes that many bytes of the frame readable, or all if it has fewer; whether these are `enough`. Network drivers leave most
 * of a packet in pages: virtio-net of those longer than 128 bytes all but the Ethernet header (page_to_skb), others all but the
 * headers that eth_get_headlen recognizes, which are not those that ICMP or VXLAN have inside. Other pointers into the packet
 * are invalid afterwards.
 */
static __always_inline bool pull(struct packet *packet, __u32 bytes, __u32 enough)
{
	struct __sk_buff *skb = packet->skb;

	if (is_readable(packet, bytes))
		return true;
	if (packet->end - packet->data < skb->len) {
		bpf_skb_pull_data(skb, skb->len < bytes ? skb->len : bytes);
		load_pointers(packet);
	}
	return is_readable(packet, enough);
}

/* An IPv4 header without options and without these bits of the fragment field. */
static __always_inline bool is_plain_header(const void *header, __u16 fragment_bits)
{
	const struct iphdr *ip = header;

	return *(const __u8 *)header == 0x45 && !(ip->frag_off & bpf_htons(fragment_bits));
}

static __always_inline bool is_fragment(const struct iphdr *ip)
{
	return ip->frag_off & bpf_htons(IP_MF | IP_OFFSET);
}

/*
 * Whether this is IPv4 of the link itself. The kernel takes the VLAN tag out of a frame before its filters run and finds the
 * VLAN's link only after them (__netif_receive_skb_core): a tagged frame is not for an address of this link.
 */
static __always_inline bool parse_ipv4(struct __sk_buff *skb, struct packet *packet)
{
	packet->skb = skb;
	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->vlan_present)
		return false;
	load_pointers(packet);
	return pull(packet, MIN_LENGTH + TCP_HEADER, MIN_LENGTH);
}

/* Where in the frame the transport header begins. */
static __always_inline __u32 transport_offset(const struct packet *packet)
{
	return IP_START + packet->ip->ihl * 4;
}

/*
 * The transport header of a packet without IP options that is no fragment: nearly all, and it has a fixed place. Programs
 * handle these in a straight line: without a JIT every instruction counts.
 */
static __always_inline bool find_usual_transport(struct packet *packet)
{
	packet->transport = (void *)(packet->ip + 1);
	return is_plain_header(packet->ip, IP_MF | IP_OFFSET) && (void *)(packet->transport + 1) <= packet->end;
}

/* The transport header of any packet; later fragments have none. */
static __always_inline bool find_transport(struct packet *packet)
{
	if (find_usual_transport(packet))
		return true;
	if (packet->ip->version != 4 || packet->ip->ihl < 5 || packet->ip->frag_off & bpf_htons(IP_OFFSET) ||
	    !pull(packet, IP_START + MAX_IP_HEADER + TCP_HEADER, MIN_LENGTH))
		return false;
	packet->transport = packet->data + transport_offset(packet);
	return (void *)(packet->transport + 1) <= packet->end;
}

/* Whether this is a TCP segment or a datagram; TCP's flags, 0 for UDP. */
static __always_inline bool parse_transport(const struct packet *packet, __u8 *flags)
{
	const __u8 *header = (const __u8 *)packet->transport;

	*flags = 0;
	if (packet->ip->protocol == IPPROTO_UDP)
		return true;
	if (packet->ip->protocol != IPPROTO_TCP || (void *)(header + 14) > packet->end)
		return false;
	*flags = header[13];
	return true;
}

/* The error that an ICMP packet is, if what it quotes can be read; otherwise NULL. */
static __always_inline struct icmp_error *parse_icmp_error(struct packet *packet)
{
	struct icmp_error *error;

	if (packet->ip->protocol != IPPROTO_ICMP || is_fragment(packet->ip) ||
	    !pull(packet, IP_START + MAX_IP_HEADER + sizeof(*error), MIN_LENGTH) || !find_transport(packet))
		return NULL;
	error = (void *)packet->transport;
	if ((void *)(error + 1) > packet->end)
		return NULL;
	if (error->type != ICMP_DEST_UNREACH && error->type != ICMP_TIME_EXCEEDED && error->type != ICMP_PARAMETERPROB)
		return NULL;
	return is_plain_header(&error->ip, IP_OFFSET) ? error : NULL;
}

/*
 * Time in units of 256 jiffies: 0.26 s if the kernel's HZ is 1000, 1 s with 250, 2.6 s with 100. Jiffies are a memory
 * read; a clock source would be read for each packet of a new connection.
 */
static __always_inline __u32 coarse_time(void)
{
	return bpf_jiffies64() >> 8;
}
