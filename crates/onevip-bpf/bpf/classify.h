/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The part of classification that both families of IP have in common: TCP, UDP, and who answers.
 */
#ifndef ONEVIP_CLASSIFY_H
#define ONEVIP_CLASSIFY_H

#include <linux/in.h>
#include <linux/udp.h>
#include "hash.h"
#include "maps.h"
#include "peer_check.h"
#include "slice.h"
#include "socket.h"

/* Offset of the TCP flags, and their bits. */
#define TCP_FLAGS 13
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* What is decided about a packet, and what the decision is about. */
struct verdict {
	enum onevip_reason reason;
	__u32 address; /* index of the VIP address that the packet names; for ARP and ND from it, of the sender */
	__u32 network; /* offset of the network header */
};

/* What all functions that classify one packet need. */
struct packet_context {
	void *ctx;
	void *end;
	const struct onevip_settings *settings;
	__u32 vip;
	bool authority; /* tc ingress; XDP only looks ahead */
	__be16 service_port; /* of a SYN that passes */
	bool dry_run; /* explain: nothing may be remembered */
};

/* A source's word in the flags and last_syn maps. */
static __always_inline __u32 word_of(struct packet_context *pkt, struct ip_header ip, __u32 protocol,
				     __be16 source_port, __be16 dest_port)
{
	if (ip.is_v6)
		return word_ipv6(pkt->settings, pkt->vip, ip.v6->saddr.s6_addr32, protocol, source_port, dest_port);
	return word_ipv4(pkt->settings, pkt->vip, ip.v4->saddr, protocol, source_port, dest_port);
}

/* The same for a packet without ports: ICMP, or any fragment of a datagram, since all must meet the same bucket. */
static __always_inline __u32 word_without_ports(struct packet_context *pkt, struct ip_header ip)
{
	return word_of(pkt, ip, 0, 0, 0);
}

/* What tells TCP flows apart in the memory of orphans. */
static __always_inline __u32 flow_hash(struct packet_context *pkt, struct ip_header ip, struct tcphdr *tcp)
{
	if (ip.is_v6)
		return flow_hash_ipv6(pkt->vip, ip.v6->saddr.s6_addr32, tcp->source, tcp->dest);
	return flow_hash_ipv4(pkt->vip, ip.v4->saddr, tcp->source, tcp->dest);
}

static __always_inline bool claimed(__u32 vip, __u32 flags)
{
	__u64 now;

	return flags & ONEVIP_MINE && lease_lives(vip, &now);
}

static __always_inline enum onevip_reason owner_answers(__u32 word, enum onevip_reason own,
							enum onevip_reason foreign)
{
	return claimed(word / ONEVIP_BUCKETS, flags_load(word)) ? own : foreign;
}

/* Tells clients apart: by their network, in IPv6. */
static __always_inline __u32 source_of(struct ip_header ip)
{
	if (ip.is_v6)
		return ip.v6->saddr.s6_addr32[0] ^ ip.v6->saddr.s6_addr32[1];
	return ip.v4->saddr;
}

/* Notes a segment of another node's client, if it was one. */
static __always_inline void peer_check(struct packet_context *pkt, struct ip_header ip, struct tcphdr *tcp, __u32 word)
{
	struct peer_segment seen = {
		.hash = flow_hash(pkt, ip, tcp),
		.source = source_of(ip),
		.word = word,
		.port = bpf_ntohs(tcp->dest),
		.seq = bpf_ntohl(tcp->seq),
		.ack = bpf_ntohl(tcp->ack_seq),
		.opens = tcp->syn && !tcp->rst && !tcp->ack,
		.acknowledges = tcp->ack,
		.ends = tcp->fin || tcp->rst,
	};

	if (!pkt->dry_run)
		peer_note(&seen);
}

static __always_inline enum onevip_reason classify_syn(struct packet_context *pkt, struct ip_header ip,
						       struct tcphdr *tcp, __u32 word)
{
	__u32 flags = flags_load(word);
	__u64 now;

	if (!(flags & ONEVIP_MINE)) {
		if (flags & ONEVIP_SAMPLED)
			peer_check(pkt, ip, tcp, word);
		return ONEVIP_SYN_FOREIGN;
	}
	if (!lease_lives(pkt->vip, &now))
		return ONEVIP_SYN_LAPSED;
	if (!port_is_served(pkt->settings, pkt->vip, IPPROTO_TCP, tcp->dest))
		return ONEVIP_SYN_UNSERVED;
	pkt->service_port = tcp->dest;
	if (pkt->authority)
		last_syn_store(word, now);
	return ONEVIP_SYN_OWN;
}

/* A segment that opens nothing, in a bucket of which something may live here. */
static __always_inline enum onevip_reason classify_flow(struct packet_context *pkt, struct ip_header ip,
							struct tcphdr *tcp, __u32 flags)
{
	struct socket socket = socket_of_segment(pkt->ctx, ip, tcp);
	bool waited, lease, claims;
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
	case SOCKET_REQUEST_UNREAD:
		/* To drop it would be to let nobody in. */
		return ONEVIP_TCP_HALF_OPEN;
	case SOCKET_TIME_WAIT:
		/* A reused 4-tuple that another node serves must not get our stale ACKs. */
		return tcp->fin || claimed(pkt->vip, flags) ? ONEVIP_TCP_TIME_WAIT : ONEVIP_TCP_TIME_WAIT_FOREIGN;
	case SOCKET_COOKIE:
		/* After a move only the issuer can complete the handshake. */
		return ONEVIP_TCP_COOKIE;
	case SOCKET_LISTENER:
	case SOCKET_NONE:
		break;
	}
	/* Most come to a bucket of which only guests are here, and need no look at the clock. */
	if (!(flags & (ONEVIP_MINE | ONEVIP_WATCHED)))
		return ONEVIP_TCP_NOT_HERE;
	lease = lease_lives(pkt->vip, &now);
	claims = flags & ONEVIP_MINE && lease;
	if (!claims && !(flags & ONEVIP_WATCHED))
		return ONEVIP_TCP_NOT_HERE;
	/* A reset provokes none, so it is no try, and there may be many: they would crowd out the others.
	 * The first segment is only remembered. If it lives in a kernel that was out of reach until this moment, a beat
	 * will say so before its sender tries again. */
	waited = !tcp->rst &&
		 orphan_waited(flow_hash(pkt, ip, tcp), pkt->vip,
			       pkt->settings->vips[INDEX(pkt->vip, ONEVIP_VIPS_MAX)].orphan_wait_ms, now,
			       pkt->dry_run);
	if (!claims)
		return ONEVIP_TCP_NOT_HERE;
	if (flags & ONEVIP_ELSEWHERE)
		return ONEVIP_TCP_ELSEWHERE;
	/* A reset would tell that somebody is here. */
	if (!port_is_served(pkt->settings, pkt->vip, IPPROTO_TCP, tcp->dest))
		return ONEVIP_TCP_UNSERVED;
	return waited ? ONEVIP_TCP_ORPHAN : ONEVIP_TCP_ORPHAN_FIRST;
}

/* A segment that opens nothing. */
static __always_inline enum onevip_reason classify_segment(struct packet_context *pkt, struct ip_header ip,
							   struct tcphdr *tcp, __u32 word)
{
	__u32 flags = flags_load(word);

	/* MINE leads to the lookup even when the lease has run out: the daemon of a hung node cannot mark its guests
	 * any more, and its sessions must live on. */
	if (!(flags & (ONEVIP_MINE | ONEVIP_GUESTS | ONEVIP_WATCHED | ONEVIP_SAMPLED)) &&
	    !last_syn_is_recent(word, pkt->authority))
		return ONEVIP_TCP_FOREIGN;
	if (flags & ONEVIP_SAMPLED) {
		peer_check(pkt, ip, tcp, word);
		if (!(flags & (ONEVIP_MINE | ONEVIP_GUESTS | ONEVIP_WATCHED)) &&
		    !last_syn_is_recent(word, pkt->authority))
			return ONEVIP_TCP_FOREIGN;
	}
	return classify_flow(pkt, ip, tcp, flags);
}

/* Whether a segment opens a connection. */
static __always_inline bool tcp_opens(struct tcphdr *tcp)
{
	return (((__u8 *)tcp)[TCP_FLAGS] & (TCP_SYN | TCP_RST | TCP_ACK)) == TCP_SYN;
}

static __always_inline enum onevip_reason classify_tcp(struct packet_context *pkt, struct ip_header ip, void *transport)
{
	struct tcphdr *tcp = transport;
	__u32 word;

	if ((void *)(tcp + 1) > pkt->end || tcp->doff < 5)
		return ONEVIP_MALFORMED;
	word = word_of(pkt, ip, IPPROTO_TCP, tcp->source, tcp->dest);
	return tcp_opens(tcp) ? classify_syn(pkt, ip, tcp, word) : classify_segment(pkt, ip, tcp, word);
}

/* A datagram to a service that is answered by whoever has the socket. */
static __always_inline enum onevip_reason classify_datagram(struct packet_context *pkt, struct ip_header ip,
							    struct udphdr *udp, const struct onevip_service *service)
{
	struct bpf_sock_tuple flow;
	__u32 size = flow_of(ip, udp->source, udp->dest, &flow);

	return classify_by_socket(pkt->ctx, service, &flow, size, bpf_ntohs(udp->dest));
}

/* All fragments of a datagram must meet the same bucket, so the first of them does not count its ports. */
static __always_inline enum onevip_reason classify_udp(struct packet_context *pkt, struct ip_header ip, void *transport,
						       bool whole)
{
	const struct onevip_service *service;
	struct udphdr *udp = transport;
	__u32 word;

	if ((void *)(udp + 1) > pkt->end)
		return ONEVIP_MALFORMED;
	if (whole) {
		if (udp->dest == bpf_htons(pkt->settings->vips[pkt->vip].beat_port))
			return ONEVIP_BEAT;
		service = service_by_socket(pkt->settings, pkt->vip, bpf_ntohs(udp->dest));
		if (service)
			return classify_datagram(pkt, ip, udp, service);
		word = word_of(pkt, ip, IPPROTO_UDP, udp->source, udp->dest);
	} else {
		word = word_without_ports(pkt, ip);
	}
	if (!claimed(pkt->vip, flags_load(word)))
		return ONEVIP_UDP_FOREIGN;
	return port_is_served(pkt->settings, pkt->vip, IPPROTO_UDP, udp->dest) ? ONEVIP_UDP_OWN : ONEVIP_UDP_UNSERVED;
}

/* A fragment other than the first: it may belong to what a guest sends. */
static __always_inline enum onevip_reason classify_fragment(struct packet_context *pkt, struct ip_header ip)
{
	__u32 flags = flags_load(word_without_ports(pkt, ip));

	return flags & ONEVIP_GUESTS || claimed(pkt->vip, flags) ? ONEVIP_FRAGMENT_OWN : ONEVIP_FRAGMENT_FOREIGN;
}

static __always_inline enum onevip_reason classify_other(struct packet_context *pkt, struct ip_header ip)
{
	if (!claimed(pkt->vip, flags_load(word_without_ports(pkt, ip))))
		return ONEVIP_OTHER_FOREIGN;
	return others_dropped(pkt->settings, pkt->vip) ? ONEVIP_OTHER_UNSERVED : ONEVIP_OTHER_OWN;
}

/* Never dropped for want of a service: ping is one to whoever looks for a fault. */
static __always_inline enum onevip_reason classify_plain_icmp(struct packet_context *pkt, struct ip_header ip)
{
	return owner_answers(word_without_ports(pkt, ip), ONEVIP_ICMP_OWN, ONEVIP_ICMP_FOREIGN);
}

/* An ICMP error about a datagram that left a port of such a service. */
static __always_inline enum onevip_reason classify_error_by_socket(struct packet_context *pkt,
								   const struct onevip_service *service,
								   struct bpf_sock_tuple *flow, __u32 size, __be16 port)
{
	enum onevip_reason reason = classify_by_socket(pkt->ctx, service, flow, size, bpf_ntohs(port));

	return reason == ONEVIP_UDP_HELD ? ONEVIP_ICMP_ERROR_OWN : ONEVIP_ICMP_ERROR_FOREIGN;
}

/* An ICMP error about a TCP flow, whatever bucket the complaining router is in. */
static __always_inline enum onevip_reason classify_error_about(struct packet_context *pkt, struct bpf_sock_tuple *flow,
							       __u32 size)
{
	struct socket socket = socket_find(pkt->ctx, flow, size);

	return socket.kind == SOCKET_NONE || socket.kind == SOCKET_LISTENER ? ONEVIP_ICMP_ERROR_FOREIGN :
									      ONEVIP_ICMP_ERROR_OWN;
}

#endif
