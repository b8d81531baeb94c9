/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The verdict on a packet: the same decision, in the same order, as packet.rs and verdict.rs of onevip-core.
 *
 * It reads and decides; all it writes is the memory of passed SYNs (as the authority) and that of orphans. What to do
 * about the verdict is the business of ingress.h and xdp.h.
 */
#ifndef ONEVIP_VERDICT_H
#define ONEVIP_VERDICT_H

#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include "arp.h"
#include "hash.h"
#include "maps.h"
#include "socket.h"

/* <linux/icmp.h> and <linux/if_arp.h> drag the C library in, so what we need of them stands here and in arp.h. */
#define ICMP_DEST_UNREACH 3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_REDIRECT 5
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12

struct icmp_header {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 rest;
};

/* Offset of the EtherType. */
#define ETHERTYPE 12

#define IP_OFFSET_MASK 0x1fff
#define IP_MORE_FRAGMENTS 0x2000

/* Offset of the TCP flags, and their bits. */
#define TCP_FLAGS 13
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* Everything a verdict can rest on lies within: two tags, and an ICMP error that quotes an IPv4 header with options. */
#define HEADERS_MAX 160
/* Enough to see that a frame is not ours: two tags, and an IPv4 header or an ARP message. */
#define HEADERS_MIN 50

struct judged {
	enum onevip_reason reason;
	__u32 address; /* index of the VIP address that the packet names; for ARP from it, of the sender */
	__u32 network; /* offset of the network header */
};

/* What is the same for all parts of one verdict. */
struct inquiry {
	void *ctx;
	void *end;
	const struct onevip_settings *settings;
	__u32 vip;
	bool authority; /* tc ingress; XDP only looks ahead */
};

static __always_inline bool claimed(__u32 flags)
{
	__u64 now;

	return flags & ONEVIP_MINE && lease_lives(&now);
}

static __always_inline enum onevip_reason owner_answers(__u32 word, enum onevip_reason own,
							enum onevip_reason foreign)
{
	return claimed(flags_load(word)) ? own : foreign;
}

static __always_inline enum onevip_reason judge_arp(struct inquiry *on, struct arp_message *arp, __u32 *address)
{
	int sender = address_find_ipv4(on->settings, arp->sender);
	int target;

	if (sender >= 0) {
		on->vip = address_vip(on->settings, sender);
		*address = sender;
		return mac_equal(arp->sender_mac, on->settings->vips[on->vip].cluster_mac) ? ONEVIP_ARP_ECHO :
											     ONEVIP_ARP_STRANGER;
	}
	target = address_find_ipv4(on->settings, arp->target);
	if (target < 0)
		return ONEVIP_NOT_OURS;
	on->vip = address_vip(on->settings, target);
	*address = target;
	/* Any node may have asked: one that only holds sessions must still resolve its gateway. */
	if (arp->operation == bpf_htons(ARPOP_REPLY))
		return ONEVIP_ARP_TO_VIP;
	return owner_answers(word_ipv4(on->settings, on->vip, arp->sender, 0, 0), ONEVIP_ARP_ANSWER,
			     ONEVIP_ARP_FOREIGN);
}

static __always_inline enum onevip_reason judge_syn(struct inquiry *on, __u32 word)
{
	__u32 flags = flags_load(word);
	__u64 now;

	if (!(flags & ONEVIP_MINE))
		return ONEVIP_SYN_FOREIGN;
	if (!lease_lives(&now))
		return ONEVIP_SYN_LAPSED;
	if (on->authority)
		last_syn_store(word, now);
	return ONEVIP_SYN_OWN;
}

/* A segment that opens nothing, in a bucket of which something may live here. */
static __always_inline enum onevip_reason judge_flow(struct inquiry *on, struct iphdr *ip, struct tcphdr *tcp,
						     __u32 flags)
{
	struct bpf_sock_tuple flow = {
		.ipv4 = { .saddr = ip->saddr, .daddr = ip->daddr, .sport = tcp->source, .dport = tcp->dest },
	};
	struct socket socket = socket_find(on->ctx, &flow, ip, tcp);
	bool waited;
	__u64 now;

	switch (socket.kind) {
	case SOCKET_CONNECTED:
		return ONEVIP_TCP_HELD;
	case SOCKET_REQUEST:
		/* A reset provokes no answer, and a stale half-open socket is better gone. Anything else that does not
		 * acknowledge our SYN-ACK would be answered with a reset that fits the new owner's session exactly. */
		if (tcp->rst || (tcp->ack && bpf_ntohl(tcp->ack_seq) == socket.sent_isn + 1))
			return ONEVIP_TCP_HALF_OPEN;
		return ONEVIP_TCP_HALF_OPEN_STALE;
	case SOCKET_TIME_WAIT:
		/* A reused 4-tuple that another node serves must not get our stale ACKs. */
		return tcp->fin || claimed(flags) ? ONEVIP_TCP_TIME_WAIT : ONEVIP_TCP_TIME_WAIT_FOREIGN;
	case SOCKET_COOKIE:
		/* After a move only the issuer can complete the handshake. */
		return ONEVIP_TCP_COOKIE;
	case SOCKET_LISTENER:
	case SOCKET_NONE:
		break;
	}
	if (!(flags & ONEVIP_MINE) || !lease_lives(&now))
		return ONEVIP_TCP_NOT_HERE;
	/* The first segment is only remembered. If it lives in a kernel that was out of reach until this moment, a beat
	 * will say so before its sender tries again. */
	waited = orphan_waited(flow_hash_ipv4(on->vip, ip->saddr, tcp->source, tcp->dest), on->vip,
			       on->settings->vips[on->vip & (ONEVIP_VIPS_MAX - 1)].orphan_wait_ms, now);
	if (flags & ONEVIP_ELSEWHERE)
		return ONEVIP_TCP_ELSEWHERE;
	return waited ? ONEVIP_TCP_ORPHAN : ONEVIP_TCP_ORPHAN_FIRST;
}

/* A segment that opens nothing. */
static __always_inline enum onevip_reason judge_segment(struct inquiry *on, struct iphdr *ip, struct tcphdr *tcp,
							__u32 word)
{
	__u32 flags = flags_load(word);

	/* MINE leads to the lookup even when the lease has run out: the daemon of a hung node cannot mark its guests
	 * any more, and its sessions must live on. */
	if (!(flags & (ONEVIP_MINE | ONEVIP_GUESTS)) && !last_syn_is_recent(word, on->authority))
		return ONEVIP_TCP_FOREIGN;
	return judge_flow(on, ip, tcp, flags);
}

/* Whether a segment opens a connection. */
static __always_inline bool tcp_opens(struct tcphdr *tcp)
{
	return (((__u8 *)tcp)[TCP_FLAGS] & (TCP_SYN | TCP_RST | TCP_ACK)) == TCP_SYN;
}

static __always_inline enum onevip_reason judge_tcp(struct inquiry *on, struct iphdr *ip, void *transport)
{
	struct tcphdr *tcp = transport;
	__u32 word;

	if ((void *)(tcp + 1) > on->end || tcp->doff < 5)
		return ONEVIP_MALFORMED;
	word = word_ipv4(on->settings, on->vip, ip->saddr, tcp->source, tcp->dest);
	return tcp_opens(tcp) ? judge_syn(on, word) : judge_segment(on, ip, tcp, word);
}

static __always_inline enum onevip_reason judge_udp(struct inquiry *on, struct iphdr *ip, void *transport)
{
	struct udphdr *udp = transport;
	__be16 source = 0, dest = 0;

	if ((void *)(udp + 1) > on->end)
		return ONEVIP_MALFORMED;
	/* All fragments of a datagram must meet the same bucket, so a first fragment does not count its ports. */
	if (!(ip->frag_off & bpf_htons(IP_MORE_FRAGMENTS))) {
		source = udp->source;
		dest = udp->dest;
		if (dest == bpf_htons(on->settings->vips[on->vip].beat_port))
			return ONEVIP_BEAT;
	}
	return owner_answers(word_ipv4(on->settings, on->vip, ip->saddr, source, dest), ONEVIP_UDP_OWN,
			     ONEVIP_UDP_FOREIGN);
}

static __always_inline bool icmp_is_error(__u8 type)
{
	return type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH || type == ICMP_REDIRECT ||
	       type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM;
}

/* An ICMP error goes to whoever has the flow it is about, whatever bucket the complaining router is in: that is what
 * makes path MTU discovery work. NOT_OURS when it quotes too little, or nothing that this VIP sent. */
static __always_inline enum onevip_reason judge_icmp_error(struct inquiry *on, struct iphdr *ip, void *quotation)
{
	struct iphdr *quoted = quotation;
	struct udphdr *ports; /* TCP begins with them as well */
	struct bpf_sock_tuple flow = {};
	struct socket socket;
	bool first;
	__u32 word;

	if ((void *)(quoted + 1) > on->end || quoted->version != 4 || quoted->ihl < 5)
		return ONEVIP_NOT_OURS;
	ports = quotation + quoted->ihl * 4;
	if ((void *)(ports + 1) > on->end || quoted->saddr != ip->daddr)
		return ONEVIP_NOT_OURS;
	first = !(quoted->frag_off & bpf_htons(IP_OFFSET_MASK));
	if (quoted->protocol == IPPROTO_TCP && first) {
		flow.ipv4.saddr = quoted->daddr;
		flow.ipv4.sport = ports->dest;
		flow.ipv4.daddr = quoted->saddr;
		flow.ipv4.dport = ports->source;
		socket = socket_find(on->ctx, &flow, NULL, NULL);
		return socket.kind == SOCKET_NONE || socket.kind == SOCKET_LISTENER ? ONEVIP_ICMP_ERROR_FOREIGN :
										      ONEVIP_ICMP_ERROR_OWN;
	}
	if (quoted->protocol == IPPROTO_UDP && first)
		word = word_ipv4(on->settings, on->vip, quoted->daddr, ports->dest, ports->source);
	else
		word = word_ipv4(on->settings, on->vip, quoted->daddr, 0, 0);
	return owner_answers(word, ONEVIP_ICMP_ERROR_OWN, ONEVIP_ICMP_ERROR_FOREIGN);
}

static __always_inline enum onevip_reason judge_icmp(struct inquiry *on, struct iphdr *ip, void *transport)
{
	struct icmp_header *icmp = transport;
	enum onevip_reason reason;

	if ((void *)(icmp + 1) > on->end)
		return ONEVIP_MALFORMED;
	if (icmp_is_error(icmp->type)) {
		reason = judge_icmp_error(on, ip, icmp + 1);
		if (reason != ONEVIP_NOT_OURS)
			return reason;
	}
	return owner_answers(word_ipv4(on->settings, on->vip, ip->saddr, 0, 0), ONEVIP_ICMP_OWN,
			     ONEVIP_ICMP_FOREIGN);
}

/* A packet whose destination is a VIP. The total length is not looked at: BIG TCP has 0 there, and the stack checks. */
static __always_inline enum onevip_reason judge_ipv4(struct inquiry *on, struct iphdr *ip)
{
	void *transport = (void *)ip + ip->ihl * 4;
	__u32 flags;

	if (ip->version != 4 || ip->ihl < 5 || transport > on->end)
		return ONEVIP_MALFORMED;
	if (ip->frag_off & bpf_htons(IP_OFFSET_MASK)) {
		flags = flags_load(word_ipv4(on->settings, on->vip, ip->saddr, 0, 0));
		return flags & ONEVIP_GUESTS || claimed(flags) ? ONEVIP_FRAGMENT_OWN : ONEVIP_FRAGMENT_FOREIGN;
	}
	switch (ip->protocol) {
	case IPPROTO_TCP:
		return judge_tcp(on, ip, transport);
	case IPPROTO_UDP:
		return judge_udp(on, ip, transport);
	case IPPROTO_ICMP:
		return judge_icmp(on, ip, transport);
	default:
		return owner_answers(word_ipv4(on->settings, on->vip, ip->saddr, 0, 0), ONEVIP_OTHER_OWN,
				     ONEVIP_OTHER_FOREIGN);
	}
}

/* Whether the frame concerns a VIP, as far as a glance at the start of its network header tells. */
static __always_inline bool frame_concerns_vip(const struct onevip_settings *settings, void *data, void *end)
{
	struct link link;
	struct iphdr *ip;

	if (!link_read(data, end, &link))
		return false;
	if (link.type == bpf_htons(ETH_P_ARP))
		return true;
	if (link.type != bpf_htons(ETH_P_IP))
		return false;
	ip = data + link.network;
	return (void *)(ip + 1) <= end && address_find_ipv4(settings, ip->daddr) >= 0;
}

/*
 * The short way: for an untagged frame with a plain IPv4 header, which nearly all are, whether it is ours, and if it is
 * a TCP segment that opens nothing, its verdict. A busy cluster sees little else, so every instruction counts here.
 * False when the long way has to be gone; the two never differ, which the differential test checks.
 */
static __always_inline bool judge_quickly(struct inquiry *on, void *data, struct judged *judged)
{
	struct iphdr *ip = data + ETH_HLEN;
	struct tcphdr *tcp = data + ETH_HLEN + sizeof(*ip);
	int address;

	if ((void *)(tcp + 1) > on->end || *(__be16 *)(data + ETHERTYPE) != bpf_htons(ETH_P_IP))
		return false;
	address = address_find_ipv4(on->settings, ip->daddr);
	if (address < 0)
		return true;
	/* Version and header length; then, in one word, fragmentation and protocol. */
	if (*(__u8 *)ip != 0x45 || (*(__be32 *)&ip->frag_off & bpf_htonl(0x3fff00ff)) != bpf_htonl(IPPROTO_TCP))
		return false;
	if (tcp->doff < 5 || tcp_opens(tcp))
		return false;
	on->vip = address_vip(on->settings, address);
	judged->address = address;
	judged->reason =
		judge_segment(on, ip, tcp, word_ipv4(on->settings, on->vip, ip->saddr, tcp->source, tcp->dest));
	return true;
}

/* The long way: the verdict on any frame of which the first HEADERS_MAX bytes, or all, lie between data and on->end. */
static __always_inline void judge_thoroughly(struct inquiry *on, void *data, struct judged *judged)
{
	struct arp_message *arp;
	struct iphdr *ip;
	struct link link;
	int address;

	if (!link_read(data, on->end, &link))
		return;
	judged->network = link.network;
	if (link.type == bpf_htons(ETH_P_ARP)) {
		arp = arp_read(data + link.network, on->end);
		if (arp)
			judged->reason = judge_arp(on, arp, &judged->address);
		return;
	}
	if (link.type != bpf_htons(ETH_P_IP))
		return;
	ip = data + link.network;
	if ((void *)(ip + 1) > on->end)
		return;
	address = address_find_ipv4(on->settings, ip->daddr);
	if (address < 0)
		return;
	judged->address = address;
	on->vip = address_vip(on->settings, address);
	judged->reason = judge_ipv4(on, ip);
}

/* Whether a packet of this reason goes on to this host's stack. */
static __always_inline bool reason_passes(enum onevip_reason reason)
{
	switch (reason) {
	case ONEVIP_NOT_OURS:
	case ONEVIP_ARP_ANSWER:
	case ONEVIP_ARP_TO_VIP:
	case ONEVIP_SYN_OWN:
	case ONEVIP_TCP_HELD:
	case ONEVIP_TCP_HALF_OPEN:
	case ONEVIP_TCP_TIME_WAIT:
	case ONEVIP_TCP_COOKIE:
	case ONEVIP_TCP_ORPHAN:
	case ONEVIP_ICMP_ERROR_OWN:
	case ONEVIP_ICMP_OWN:
	case ONEVIP_UDP_OWN:
	case ONEVIP_FRAGMENT_OWN:
	case ONEVIP_OTHER_OWN:
		return true;
	default:
		return false;
	}
}

#endif
