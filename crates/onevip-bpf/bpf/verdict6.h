/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The verdict on IPv6 and its neighbour discovery. The twin of crates/onevip-core/src/packet/ipv6.rs.
 */
#ifndef ONEVIP_VERDICT6_H
#define ONEVIP_VERDICT6_H

#include "classify.h"
#include "nd.h"

/* Types below this are errors (RFC 4443, 2.1). */
#define ICMPV6_FIRST_INFORMATIONAL 128

/* A message that speaks of the place of a VIP, which it names by its address of this index: does it name the cluster
 * MAC, or none, or another? */
static __always_inline enum onevip_reason nd_says(struct packet_context *pkt, struct nd_message *nd, __u8 option,
						  int address)
{
	const struct onevip_vip *vip = &pkt->settings->vips[address_vip(pkt->settings, address)];
	struct nd_link_address *link = nd_link_address(nd + 1, pkt->end, option);

	return link && !mac_equal(link->mac, vip->cluster_mac) ? ONEVIP_ND_STRANGER : ONEVIP_ND_ECHO;
}

/*
 * Neighbour discovery that concerns a VIP; NOT_OURS for everything else, which may yet be a packet to the VIP.
 * `address` is the index of the VIP address to which the packet goes, or -1; afterwards that of the one it is about.
 */
static __always_inline enum onevip_reason classify_nd(struct packet_context *pkt, struct ipv6hdr *ip,
						      const struct chain *chain, int *address)
{
	struct nd_message *nd = chain->transport;
	int source, target;
	enum onevip_reason said;

	if (chain->protocol != IPPROTO_ICMPV6 || chain->first || ip->hop_limit != ND_HOP_LIMIT)
		return ONEVIP_NOT_OURS;
	if ((void *)(&nd->icmp + 1) > pkt->end || nd->icmp.code)
		return ONEVIP_NOT_OURS;
	/* Any node may have asked, or use that router: what speaks of the LAN reaches all. */
	if (nd->icmp.type == ND_ROUTER_ADVERTISEMENT || nd->icmp.type == ND_REDIRECT)
		return *address >= 0 ? ONEVIP_ND_TO_VIP : ONEVIP_NOT_OURS;
	if ((nd->icmp.type != ND_SOLICITATION && nd->icmp.type != ND_ADVERTISEMENT) || (void *)(nd + 1) > pkt->end)
		return ONEVIP_NOT_OURS;
	target = address_look_up_ipv6(pkt->settings, nd->target);
	if (nd->icmp.type == ND_ADVERTISEMENT) {
		if (target < 0)
			return *address >= 0 ? ONEVIP_ND_TO_VIP : ONEVIP_NOT_OURS;
		*address = target;
		return nd_says(pkt, nd, ND_TARGET_LINK_ADDRESS, target);
	}
	source = address_look_up_ipv6(pkt->settings, ip->saddr.s6_addr32);
	if (source >= 0) {
		/* The asker gives its own address away. An honest question of another node's about somebody else is
		 * none of ours: this very host may be the one that it asks for. */
		said = nd_says(pkt, nd, ND_SOURCE_LINK_ADDRESS, source);
		if (said == ONEVIP_ND_ECHO && target < 0)
			return ONEVIP_NOT_OURS;
		*address = source;
		return said;
	}
	if (target < 0)
		return ONEVIP_NOT_OURS;
	*address = target;
	pkt->vip = address_vip(pkt->settings, target);
	return owner_answers(word_ipv6(pkt->settings, pkt->vip, ip->saddr.s6_addr32, 0, 0, 0), ONEVIP_ND_ANSWER,
			     ONEVIP_ND_FOREIGN);
}

/* An ICMPv6 error goes to whoever has the flow it is about. NOT_OURS when it quotes too little, or nothing that this
 * VIP sent. */
static __always_inline enum onevip_reason classify_icmpv6_error(struct packet_context *pkt, struct ipv6hdr *ip,
								void *quotation)
{
	struct ipv6hdr *quoted = quotation;
	const struct onevip_service *service = NULL;
	struct bpf_sock_tuple flow;
	struct udphdr *ports; /* TCP begins with them as well */
	struct chain chain;
	__be16 source = 0, dest = 0;
	__u32 protocol = 0;

	if ((void *)(quoted + 1) > pkt->end || quoted->version != 6)
		return ONEVIP_NOT_OURS;
	if (!ipv6_equal(quoted->saddr.s6_addr32, ip->daddr.s6_addr32) || !chain_walk(quoted, pkt->end, &chain))
		return ONEVIP_NOT_OURS;
	if (!chain.later) {
		ports = chain.transport;
		if ((void *)(ports + 1) > pkt->end)
			return ONEVIP_NOT_OURS;
		if (chain.protocol == IPPROTO_UDP)
			service = service_by_socket(pkt->settings, pkt->vip, bpf_ntohs(ports->source));
		if (chain.protocol == IPPROTO_TCP || service) {
			__builtin_memcpy(flow.ipv6.saddr, &quoted->daddr, sizeof(flow.ipv6.saddr));
			__builtin_memcpy(flow.ipv6.daddr, &quoted->saddr, sizeof(flow.ipv6.daddr));
			flow.ipv6.sport = ports->dest;
			flow.ipv6.dport = ports->source;
			if (service)
				return classify_error_by_socket(pkt, service, &flow, sizeof(flow.ipv6), ports->source);
			return classify_error_about(pkt, &flow, sizeof(flow.ipv6));
		}
		if (chain.protocol == IPPROTO_UDP) {
			protocol = IPPROTO_UDP;
			source = ports->dest;
			dest = ports->source;
		}
	}
	return owner_answers(word_ipv6(pkt->settings, pkt->vip, quoted->daddr.s6_addr32, protocol, source, dest),
			     ONEVIP_ICMP_ERROR_OWN, ONEVIP_ICMP_ERROR_FOREIGN);
}

static __always_inline enum onevip_reason classify_icmpv6(struct packet_context *pkt, struct ip_header ip,
							  void *transport)
{
	struct icmpv6_header *icmp = transport;
	enum onevip_reason reason;

	if ((void *)(icmp + 1) > pkt->end)
		return ONEVIP_MALFORMED;
	if (icmp->type < ICMPV6_FIRST_INFORMATIONAL) {
		reason = classify_icmpv6_error(pkt, ip.v6, icmp + 1);
		if (reason != ONEVIP_NOT_OURS)
			return reason;
	}
	return classify_plain_icmp(pkt, ip);
}

/* Any IPv6 packet. `address` becomes the index of the VIP address that it is about. */
static __always_inline enum onevip_reason classify_ipv6(struct packet_context *pkt, struct ipv6hdr *header,
							__u32 *address)
{
	struct ip_header ip = { .is_v6 = true, .v6 = header };
	int about = address_look_up_ipv6(pkt->settings, header->daddr.s6_addr32);
	struct chain chain = {};
	enum onevip_reason reason;
	bool read;

	read = header->version == 6 && chain_walk(header, pkt->end, &chain);
	if (read && !chain.later) {
		reason = classify_nd(pkt, header, &chain, &about);
		if (reason != ONEVIP_NOT_OURS) {
			*address = about;
			return reason;
		}
	}
	if (about < 0)
		return ONEVIP_NOT_OURS;
	*address = about;
	pkt->vip = address_vip(pkt->settings, about);
	if (!read)
		return ONEVIP_MALFORMED;
	if (chain.later)
		return classify_fragment(pkt, ip);
	if (chain.transport > pkt->end)
		return ONEVIP_MALFORMED;
	switch (chain.protocol) {
	case IPPROTO_TCP:
		return classify_tcp(pkt, ip, chain.transport);
	case IPPROTO_UDP:
		return classify_udp(pkt, ip, chain.transport, !chain.first);
	case IPPROTO_ICMPV6:
		return classify_icmpv6(pkt, ip, chain.transport);
	default:
		return classify_other(pkt, ip);
	}
}

#endif
