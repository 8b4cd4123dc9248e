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
#define MIN_LENGTH (IP_START + sizeof(struct iphdr) + sizeof(struct transport))
/* Between the outer and the inner IP header of a VXLAN datagram; and as many bytes of a frame as any program reads. */
#define VXLAN_LENGTH (sizeof(struct udphdr) + sizeof(struct vxlan_header) + sizeof(struct ethhdr))
#define MAX_LENGTH (MIN_LENGTH + VXLAN_LENGTH + sizeof(struct iphdr))

/* An IPv4 packet. */
struct packet {
	struct __sk_buff *skb;
	void *data;
	void *end;
	struct ethhdr *eth;
	struct iphdr *ip;
	/* See find_transport. */
	struct transport *transport;
	/* Its offset in the frame. */
	__u32 transport_at;
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

static __always_inline bool load_pointers(struct packet *packet, __u32 bytes)
{
	packet->data = (void *)(long)packet->skb->data;
	packet->end = (void *)(long)packet->skb->data_end;
	packet->eth = packet->data;
	packet->ip = packet->data + IP_START;
	return is_readable(packet, bytes);
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
 * Whether this is IPv4. Network drivers leave headers in pages, as virtio-net does for packets longer than 128 bytes
 * (page_to_skb): without the pull, such packets would all be declined.
 */
static __always_inline bool parse_ipv4(struct __sk_buff *skb, struct packet *packet)
{
	packet->skb = skb;
	if (skb->protocol != bpf_htons(ETH_P_IP))
		return false;
	if (load_pointers(packet, MIN_LENGTH))
		return true;
	bpf_skb_pull_data(skb, skb->len < MAX_LENGTH ? skb->len : MAX_LENGTH);
	return load_pointers(packet, IP_START + sizeof(struct iphdr));
}

/* The transport header, which later fragments do not have. */
static __always_inline bool find_transport(struct packet *packet)
{
	packet->transport_at = IP_START + sizeof(struct iphdr);
	if (!is_plain_header(packet->ip, IP_OFFSET)) {
		/* IP options. */
		packet->transport_at = IP_START + packet->ip->ihl * 4;
		if (packet->ip->version != 4 || packet->ip->ihl < 5 || packet->ip->frag_off & bpf_htons(IP_OFFSET))
			return false;
	}
	packet->transport = packet->data + packet->transport_at;
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
static __always_inline struct icmp_error *parse_icmp_error(const struct packet *packet)
{
	struct icmp_error *error = (void *)packet->transport;

	if (packet->ip->protocol != IPPROTO_ICMP || is_fragment(packet->ip) || (void *)(error + 1) > packet->end)
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
