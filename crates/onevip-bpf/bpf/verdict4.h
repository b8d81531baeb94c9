/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The verdict on ARP and IPv4.
 */
#ifndef ONEVIP_VERDICT4_H
#define ONEVIP_VERDICT4_H

#include <linux/ip.h>
#include "arp.h"
#include "judge.h"

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
	return owner_answers(word_ipv4(on->settings, on->vip, arp->sender, 0, 0, 0), ONEVIP_ARP_ANSWER,
			     ONEVIP_ARP_FOREIGN);
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
	const struct onevip_service *service = NULL;
	struct bpf_sock_tuple flow;
	bool first;
	__u32 word;

	if ((void *)(quoted + 1) > on->end || quoted->version != 4 || quoted->ihl < 5)
		return ONEVIP_NOT_OURS;
	ports = quotation + quoted->ihl * 4;
	if ((void *)(ports + 1) > on->end || quoted->saddr != ip->daddr)
		return ONEVIP_NOT_OURS;
	first = !(quoted->frag_off & bpf_htons(IP_OFFSET_MASK));
	if (quoted->protocol == IPPROTO_UDP && first)
		service = service_by_socket(on->settings, on->vip, bpf_ntohs(ports->source));
	if ((quoted->protocol == IPPROTO_TCP && first) || service) {
		flow.ipv4.saddr = quoted->daddr;
		flow.ipv4.sport = ports->dest;
		flow.ipv4.daddr = quoted->saddr;
		flow.ipv4.dport = ports->source;
		if (service)
			return judge_error_by_socket(on, service, &flow, sizeof(flow.ipv4), ports->source);
		return judge_error_about(on, &flow, sizeof(flow.ipv4));
	}
	if (quoted->protocol == IPPROTO_UDP && first)
		word = word_ipv4(on->settings, on->vip, quoted->daddr, IPPROTO_UDP, ports->dest,
				 ports->source);
	else
		word = word_ipv4(on->settings, on->vip, quoted->daddr, 0, 0, 0);
	return owner_answers(word, ONEVIP_ICMP_ERROR_OWN, ONEVIP_ICMP_ERROR_FOREIGN);
}

static __always_inline enum onevip_reason judge_icmp(struct inquiry *on, struct ip_header ip, void *transport)
{
	struct icmp_header *icmp = transport;
	enum onevip_reason reason;

	if ((void *)(icmp + 1) > on->end)
		return ONEVIP_MALFORMED;
	if (icmp_is_error(icmp->type)) {
		reason = judge_icmp_error(on, ip.v4, icmp + 1);
		if (reason != ONEVIP_NOT_OURS)
			return reason;
	}
	return judge_plain_icmp(on, ip);
}

/* A packet whose destination is a VIP. The total length is not looked at: BIG TCP has 0 there, and the stack checks. */
static __always_inline enum onevip_reason judge_ipv4(struct inquiry *on, struct iphdr *header)
{
	struct ip_header ip = { .is_v6 = false, .v4 = header };
	void *transport = (void *)header + header->ihl * 4;

	if (header->version != 4 || header->ihl < 5 || transport > on->end)
		return ONEVIP_MALFORMED;
	if (header->frag_off & bpf_htons(IP_OFFSET_MASK))
		return judge_fragment(on, ip);
	switch (header->protocol) {
	case IPPROTO_TCP:
		return judge_tcp(on, ip, transport);
	case IPPROTO_UDP:
		return judge_udp(on, ip, transport, !(header->frag_off & bpf_htons(IP_MORE_FRAGMENTS)));
	case IPPROTO_ICMP:
		return judge_icmp(on, ip, transport);
	default:
		return judge_other(on, ip);
	}
}

#endif
