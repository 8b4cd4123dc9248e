/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * On the host's underlay link: redirects packets to published ports of the node's address directly into the lb, with the
 * mark that the host's DNAT and the lb's ipset would set; likewise ICMP errors about these ports, which IPVS forwards; and
 * decapsulates VXLAN datagrams of other nodes.
 */
#include "object.h"
#include "packet.h"
#include "published.h"

#define VXLAN_PORT 4789
/* VNI of all lbs (LB_VNI in src/model/linux-names.ts). */
#define LB_VNI 4095
/* Flags of the VXLAN header: the VNI is present, and a group policy too. */
#define WITH_VNI 0x0800
#define WITH_POLICY 0x8800
/* Offsets of the VXLAN header and the inner IP header; and as many bytes as decapsulation reads, up to the inner ports. */
#define VXLAN_START (IP_START + sizeof(struct iphdr) + sizeof(struct udphdr))
#define INNER_START (VXLAN_START + sizeof(struct vxlan_header) + sizeof(struct ethhdr))
#define VXLAN_LENGTH (INNER_START + sizeof(struct iphdr) + sizeof(struct transport))
/* Congestion experienced (RFC 3168). */
#define ECN_CE 3
/* Only TCP packets up to this length are decapsulated: longer ones profit from GRO in vxlan0. */
#define MAX_SHORT_PACKET 256
/* Mark of packets to the lb: no port has it, but it is not 0, so that the lb's chain does not look for a port. */
#define NO_PORT_MARK 1
#define MIN_TRANSLATED_PORT 64512
/* How long a stack waits for the fragments of a datagram (IP_FRAG_TIME), in the shortest units of coarse_time. */
#define FRAGMENT_LIFETIME 118

/* The node's underlay address and number. */
const volatile __be32 own_address;
const volatile __u32 node_number;
/* Ifindexes of the host's ends of the veths to the lb and to the router. */
const volatile __u32 lb_link;
const volatile __u32 router_link;
/* The router's. */
const volatile __u32 router_vni;

/* Underlay addresses of the other nodes: a set too. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __be32);
	__type(value, __u8);
	__uint(max_entries, 32768);
} mesh_peers SEC(".maps");

/* Fragments of one datagram to this node (RFC 791). */
struct fragment_key {
	__be32 client;
	__be16 id;
	__u8 protocol;
	__u8 unused;
};

struct fragment {
	/* 0: the standard path. */
	__u32 mark;
	/* When the first one arrived (coarse_time). */
	__u32 time;
};

/*
 * Only this program uses it. An LRU map hands out 128 entries per processor at once (LOCAL_FREE_TARGET), so a small one would
 * evict early.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
	__uint(max_entries, 32768);
} mesh_fragments SEC(".maps");

static __always_inline int to_lb(struct __sk_buff *skb, __u32 mark)
{
	skb->mark = mark;
	return bpf_redirect_peer(lb_link, 0);
}

/*
 * A datagram to VXLAN's port, without IP options and no fragment. If another node sent it to a VTEP of this node, it is
 * decapsulated and redirected into the lb or the router, with the mark that the VXLAN device would set (vxlan_rcv in
 * drivers/net/vxlan), bypassing that device and the host's netfilter, routing and UDP. Left to the device: segments that GRO
 * has merged or can merge, families and protocols without a fast path, congestion marks. The outer checksum is not verified,
 * as RFC 7348 permits; the task or client verifies the inner ones.
 */
static __always_inline int decapsulate(struct packet *packet)
{
	struct __sk_buff *skb = packet->skb;
	__u32 mark = 0, link = router_link;

	if (skb->gso_size || !pull(packet, VXLAN_LENGTH, VXLAN_LENGTH))
		return STANDARD_PATH;

	struct vxlan_header *vxlan = packet->data + VXLAN_START;
	struct iphdr *ip = packet->data + INNER_START;
	/* Of the inner Ethernet header; not a struct ethhdr, which clang reads byte by byte because it is packed. */
	__be16 *vtep = (void *)(vxlan + 1), *ether_type = (void *)ip - sizeof(*ether_type);
	__be32 sender = packet->ip->saddr;

	if ((packet->ip->tos & ECN_CE) == ECN_CE)
		return STANDARD_PATH;
	/* The last word of the VTEP's address is the node's number. */
	if (vtep[2] != bpf_htons(node_number) || *ether_type != bpf_htons(ETH_P_IP) ||
	    !is_plain_header(ip, IP_MF | IP_OFFSET))
		return STANDARD_PATH;
	if (ip->protocol != IPPROTO_UDP &&
	    (ip->protocol != IPPROTO_TCP || bpf_ntohs(ip->tot_len) > MAX_SHORT_PACKET))
		return STANDARD_PATH;

	if (vxlan->flags == bpf_htons(WITH_POLICY))
		mark = bpf_ntohs(vxlan->policy);
	else if (vxlan->flags != bpf_htons(WITH_VNI))
		return STANDARD_PATH;
	if (vxlan->vni == bpf_htonl(LB_VNI << 8)) {
		link = lb_link;
		mark = NO_PORT_MARK;
	} else if (vxlan->vni != bpf_htonl(router_vni << 8)) {
		return STANDARD_PATH;
	}

	if (!bpf_map_lookup_elem(&mesh_peers, &sender))
		return STANDARD_PATH;
	/* A checksum that the network card has verified is the outer one: the helper resets that. */
	if (bpf_skb_adjust_room(skb, -(__s32)(INNER_START - IP_START), BPF_ADJ_ROOM_MAC, 0))
		return STANDARD_PATH;
	skb->mark = mark;
	return bpf_redirect_peer(link, 0);
}

/*
 * Whether a packet from `client` to this node may belong to a program of the host itself, which may use a published port as
 * its source: a TCP socket with both addresses and ports, or any UDP socket of the port, of which only conntrack knows to
 * whom it has sent. The standard path decides then: what is no answer is translated there.
 */
static __always_inline bool has_socket(struct __sk_buff *skb, __u8 protocol, __be32 client, __be16 client_port, __be16 port)
{
	struct bpf_sock_tuple tuple = {
		.ipv4 = { .saddr = client, .daddr = own_address, .sport = client_port, .dport = port },
	};
	struct bpf_sock *sock;
	bool is_connected;

	if (protocol == IPPROTO_UDP) {
		sock = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
		if (sock)
			bpf_sk_release(sock);
		return sock;
	}
	sock = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!sock)
		return false;
	/* A listener gets no packets of a published port. */
	is_connected = sock->state != BPF_TCP_LISTEN;
	bpf_sk_release(sock);
	return is_connected;
}

/*
 * Whether a client's port may be one that the host has chosen for a connection through another of its addresses
 * (TRANSLATED_PORTS in src/model/linux-names.ts): the lb could not distinguish the two, so conntrack translates both.
 */
static __always_inline bool is_translated_port(__be16 port)
{
	return bpf_ntohs(port) >= MIN_TRANSLATED_PORT;
}

/* Whether a packet to a published port may belong to a flow of the host itself. Not inlined: nearly no packet gets here. */
static __noinline bool may_be_of_host(struct __sk_buff *skb, __u8 protocol, __be32 client, __be16 client_port, __be16 port)
{
	struct sent_key sent = { .peer = client, .peer_port = client_port, .port = port, .protocol = protocol };

	return has_socket(skb, protocol, client, client_port, port) || bpf_map_lookup_elem(&mesh_sent, &sent);
}

/* The mark of a published port whose packet goes to the lb as it is; otherwise 0. */
static __always_inline __u32 published_mark(struct __sk_buff *skb, __u8 protocol, __be32 client, __be16 client_port,
					    __be16 port)
{
	__u32 mark = port_mark(protocol, port);
	__u32 *state = bpf_map_lookup_elem(&mesh_ports, &mark);

	if (!state || is_translated_port(client_port))
		return 0;
	if (*state == PORT_UNUSED && !sent_from[port_of(mark)])
		return mark;
	return may_be_of_host(skb, protocol, client, client_port, port) ? 0 : mark;
}

/*
 * Fragments of a datagram to this node: all take the path of the one that arrives first, as only one stack can reassemble
 * them. A datagram whose first fragment is not the first to arrive takes the standard path.
 */
static __always_inline int redirect_fragment(struct packet *packet)
{
	struct fragment_key key = { .client = packet->ip->saddr, .id = packet->ip->id, .protocol = packet->ip->protocol };
	struct fragment datagram = { .time = coarse_time() };
	struct fragment *known = bpf_map_lookup_elem(&mesh_fragments, &key);
	bool is_first = find_transport(packet);

	if (known && datagram.time - known->time >= FRAGMENT_LIFETIME)
		known = NULL;
	if (is_first && !(known && known->mark == 0)) {
		datagram.mark = published_mark(packet->skb, key.protocol, key.client, packet->transport->source,
					       packet->transport->dest);
	} else if (known) {
		datagram.mark = known->mark;
	}
	if (!known || known->mark != datagram.mark)
		bpf_map_update_elem(&mesh_fragments, &key, &datagram, BPF_ANY);
	return datagram.mark ? to_lb(packet->skb, datagram.mark) : STANDARD_PATH;
}

/* An ICMP error about a packet of this node to a client. */
static __always_inline int redirect_error(struct packet *packet)
{
	struct icmp_error *error = parse_icmp_error(packet);
	__u32 mark;

	if (!error || error->ip.saddr != own_address)
		return STANDARD_PATH;
	mark = published_mark(packet->skb, error->ip.protocol, error->ip.daddr, error->transport.dest,
			      error->transport.source);
	return mark ? to_lb(packet->skb, mark) : STANDARD_PATH;
}

/* A segment or datagram to this node. */
static __always_inline int redirect(struct packet *packet)
{
	struct transport *transport = packet->transport;
	__u32 mark = published_mark(packet->skb, packet->ip->protocol, packet->ip->saddr, transport->source,
				    transport->dest);

	return mark ? to_lb(packet->skb, mark) : STANDARD_PATH;
}

/* Fragments, packets with IP options, and ICMP errors. */
static __noinline int unusual(struct __sk_buff *skb)
{
	struct packet packet;

	if (!parse_ipv4(skb, &packet))
		return STANDARD_PATH;
	if (is_fragment(packet.ip))
		return redirect_fragment(&packet);
	if (!find_transport(&packet))
		return STANDARD_PATH;
	return packet.ip->protocol == IPPROTO_ICMP ? redirect_error(&packet) : redirect(&packet);
}

SEC("tc")
int mesh_host_in(struct __sk_buff *skb)
{
	struct packet packet;

	if (!parse_ipv4(skb, &packet) || packet.ip->daddr != own_address)
		return STANDARD_PATH;
	if (!find_usual_transport(&packet) || packet.ip->protocol == IPPROTO_ICMP)
		return unusual(skb);
	if (packet.ip->protocol == IPPROTO_UDP && packet.transport->dest == bpf_htons(VXLAN_PORT))
		return decapsulate(&packet);
	return redirect(&packet);
}
