/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The verdict on ARP and IPv4.
 */
#ifndef ONEVIP_VERDICT4_H
#define ONEVIP_VERDICT4_H

#include <linux/ip.h>
#include "arp.h"
#include "classify.h"

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

#define IP_OFFSET_MASK 0x1fff
#define IP_MORE_FRAGMENTS 0x2000

static __always_inline enum onevip_reason classify_arp(struct packet_context *pkt, struct arp_message *arp,
						       __u32 *address)
{
	int sender = address_find_ipv4(pkt->settings, arp->sender);
	int target;

	if (sender >= 0) {
		pkt->vip = address_vip(pkt->settings, sender);
		*address = sender;
		return mac_equal(arp->sender_mac, pkt->settings->vips[pkt->vip].cluster_mac) ? ONEVIP_ARP_ECHO :
											     ONEVIP_ARP_STRANGER;
	}
	target = address_find_ipv4(pkt->settings, arp->target);
	if (target < 0)
		return ONEVIP_NOT_OURS;
	pkt->vip = address_vip(pkt->settings, target);
	*address = target;
	/* Any node may have asked: one that only holds sessions must still resolve its gateway. */
	if (arp->operation == bpf_htons(ARPOP_REPLY))
		return ONEVIP_ARP_TO_VIP;
	return owner_answers(word_ipv4(pkt->settings, pkt->vip, arp->sender, 0, 0, 0), ONEVIP_ARP_ANSWER,
			     ONEVIP_ARP_FOREIGN);
}

static __always_inline bool icmp_is_error(__u8 type)
{
	return type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH || type == ICMP_REDIRECT ||
	       type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM;
}

/* An ICMP error goes to whoever has the flow it is about, whatever bucket the complaining router is in: that is what
 * makes path MTU discovery work. NOT_OURS when it quotes too little, or nothing that this VIP sent. */
static __always_inline enum onevip_reason classify_icmp_error(struct packet_context *pkt, struct iphdr *ip,
							      void *quotation)
{
	struct iphdr *quoted = quotation;
	struct udphdr *ports; /* TCP begins with them as well */
	const struct onevip_service *service = NULL;
	struct bpf_sock_tuple flow;
	bool first;
	__u32 word;

	if ((void *)(quoted + 1) > pkt->end || quoted->version != 4 || quoted->ihl < 5)
		return ONEVIP_NOT_OURS;
	ports = quotation + quoted->ihl * 4;
	if ((void *)(ports + 1) > pkt->end || quoted->saddr != ip->daddr)
		return ONEVIP_NOT_OURS;
	first = !(quoted->frag_off & bpf_htons(IP_OFFSET_MASK));
	if (quoted->protocol == IPPROTO_UDP && first)
		service = service_by_socket(pkt->settings, pkt->vip, bpf_ntohs(ports->source));
	if ((quoted->protocol == IPPROTO_TCP && first) || service) {
		flow.ipv4.saddr = quoted->daddr;
		flow.ipv4.sport = ports->dest;
		flow.ipv4.daddr = quoted->saddr;
		flow.ipv4.dport = ports->source;
		if (service)
			return classify_error_by_socket(pkt, service, &flow, sizeof(flow.ipv4), ports->source);
		return classify_error_about(pkt, &flow, sizeof(flow.ipv4));
	}
	if (quoted->protocol == IPPROTO_UDP && first)
		word = word_ipv4(pkt->settings, pkt->vip, quoted->daddr, IPPROTO_UDP, ports->dest,
				 ports->source);
	else
		word = word_ipv4(pkt->settings, pkt->vip, quoted->daddr, 0, 0, 0);
	return owner_answers(word, ONEVIP_ICMP_ERROR_OWN, ONEVIP_ICMP_ERROR_FOREIGN);
}

static __always_inline enum onevip_reason classify_icmp(struct packet_context *pkt, struct ip_header ip,
							void *transport)
{
	struct icmp_header *icmp = transport;
	enum onevip_reason reason;

	if ((void *)(icmp + 1) > pkt->end)
		return ONEVIP_MALFORMED;
	if (icmp_is_error(icmp->type)) {
		reason = classify_icmp_error(pkt, ip.v4, icmp + 1);
		if (reason != ONEVIP_NOT_OURS)
			return reason;
	}
	return classify_plain_icmp(pkt, ip);
}

/* A packet whose destination is a VIP. The total length is not looked at: BIG TCP has 0 there, and the stack checks. */
static __always_inline enum onevip_reason classify_ipv4(struct packet_context *pkt, struct iphdr *header)
{
	struct ip_header ip = { .is_v6 = false, .v4 = header };
	void *transport = (void *)header + header->ihl * 4;

	if (header->version != 4 || header->ihl < 5 || transport > pkt->end)
		return ONEVIP_MALFORMED;
	if (header->frag_off & bpf_htons(IP_OFFSET_MASK))
		return classify_fragment(pkt, ip);
	switch (header->protocol) {
	case IPPROTO_TCP:
		return classify_tcp(pkt, ip, transport);
	case IPPROTO_UDP:
		return classify_udp(pkt, ip, transport, !(header->frag_off & bpf_htons(IP_MORE_FRAGMENTS)));
	case IPPROTO_ICMP:
		return classify_icmp(pkt, ip, transport);
	default:
		return classify_other(pkt, ip);
	}
}

#endif
