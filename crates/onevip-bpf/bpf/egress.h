/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tc egress: the guard. No ARP or neighbour message that says where the VIP is leaves with the interface's own MAC in
 * it.
 *
 * The Ethernet source stays the interface's own, so that switches never learn the cluster MAC on a port.
 */
#ifndef ONEVIP_EGRESS_H
#define ONEVIP_EGRESS_H

#include <linux/pkt_cls.h>
#include "arp.h"
#include "effect.h"
#include "maps.h"
#include "nd.h"

enum guarded {
	GUARDED_NOTHING, /* the message names no VIP, or the right MAC */
	GUARDED_REWROTE,
	GUARDED_FAILED,
};

static __always_inline const struct onevip_vip *vip_of(const struct onevip_settings *settings, int address)
{
	return &settings->vips[address_vip(settings, address)];
}

static __always_inline enum guarded guard_arp(struct __sk_buff *skb, const struct onevip_settings *settings,
					      __u32 network)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct arp_message *arp = arp_read(data + network, end);
	const struct onevip_vip *vip;
	int sender;

	if (!arp)
		return GUARDED_NOTHING;
	sender = address_find_ipv4(settings, arp->sender);
	if (sender < 0)
		return GUARDED_NOTHING;
	/* What nobody asked for names itself. */
	if (arp->operation == bpf_htons(ARPOP_REPLY) && arp->target != arp->sender)
		effect_count(sender, ONEVIP_ON_LINK, ONEVIP_ANSWER_OUT);
	vip = vip_of(settings, sender);
	if (mac_equal(arp->sender_mac, vip->cluster_mac))
		return GUARDED_NOTHING;
	if (bpf_skb_store_bytes(skb, network + offsetof(struct arp_message, sender_mac), vip->cluster_mac,
				sizeof(vip->cluster_mac), 0))
		return GUARDED_FAILED;
	return GUARDED_REWROTE;
}

/* Puts the cluster MAC into an option at this offset of the frame, whose checksum is at that one. */
static __always_inline enum guarded option_rewrite(struct __sk_buff *skb, const struct onevip_vip *vip,
						   const struct nd_link_address *option, __u32 at, __u32 checksum)
{
	struct nd_link_address wrong = *option, right = *option;
	__s64 difference;

	__builtin_memcpy(right.mac, vip->cluster_mac, sizeof(right.mac));
	difference = bpf_csum_diff((void *)&wrong, sizeof(wrong), (void *)&right, sizeof(right), 0);
	if (bpf_skb_store_bytes(skb, at, &right, sizeof(right), 0) ||
	    bpf_l4_csum_replace(skb, checksum, 0, difference, 0))
		return GUARDED_FAILED;
	return GUARDED_REWROTE;
}

/* The stack sends neighbour messages without extension headers, and so are they read here. */
static __always_inline enum guarded guard_nd(struct __sk_buff *skb, const struct onevip_settings *settings,
					     __u32 network)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ipv6hdr *ip = data + network;
	struct icmpv6_header *icmp = (void *)(ip + 1);
	struct nd_message *nd = (void *)icmp;
	struct nd_link_address *option;
	const struct onevip_vip *vip;
	int about;

	if ((void *)(icmp + 1) > end || ip->nexthdr != IPPROTO_ICMPV6)
		return GUARDED_NOTHING;
	switch (icmp->type) {
	case ND_ROUTER_SOLICITATION:
		about = address_look_up_ipv6(settings, ip->saddr.s6_addr32);
		option = nd_link_address(icmp + 1, end, ND_SOURCE_LINK_ADDRESS);
		break;
	case ND_SOLICITATION:
		about = address_look_up_ipv6(settings, ip->saddr.s6_addr32);
		option = nd_link_address(nd + 1, end, ND_SOURCE_LINK_ADDRESS);
		break;
	case ND_ADVERTISEMENT:
		if ((void *)(nd + 1) > end)
			return GUARDED_NOTHING;
		about = address_look_up_ipv6(settings, nd->target);
		option = nd_link_address(nd + 1, end, ND_TARGET_LINK_ADDRESS);
		if (about >= 0 && nd->icmp.rest & bpf_htonl(ND_SOLICITED))
			effect_count(about, ONEVIP_ON_LINK, ONEVIP_ANSWER_OUT);
		break;
	default:
		return GUARDED_NOTHING;
	}
	if (about < 0 || !option)
		return GUARDED_NOTHING;
	vip = vip_of(settings, about);
	if (mac_equal(option->mac, vip->cluster_mac))
		return GUARDED_NOTHING;
	return option_rewrite(skb, vip, option, (void *)option - data,
			      network + sizeof(*ip) + offsetof(struct icmpv6_header, checksum));
}

SEC("classifier")
int onevip_egress(struct __sk_buff *skb)
{
	const struct onevip_settings *settings = settings_now();
	enum guarded guarded = GUARDED_NOTHING;
	struct link link;

	if (!settings || (skb->vlan_present && skb->vlan_tci & VLAN_ID_MASK))
		return TC_ACT_UNSPEC;
	if (!link_read((void *)(long)skb->data, (void *)(long)skb->data_end, &link))
		return TC_ACT_UNSPEC;
	if (link.type == bpf_htons(ETH_P_ARP)) {
		guarded = guard_arp(skb, settings, link.network);
	} else if (link.type == bpf_htons(ETH_P_IPV6)) {
		effect_out_ipv6(skb, settings, link.network);
		guarded = guard_nd(skb, settings, link.network);
	} else if (link.type == bpf_htons(ETH_P_IP)) {
		effect_out_ipv4(skb, settings, link.network);
	}
	if (guarded == GUARDED_NOTHING)
		return TC_ACT_UNSPEC;
	if (guarded == GUARDED_FAILED) {
		count(ONEVIP_EGRESS, ONEVIP_GUARD_FAILED);
		return TC_ACT_SHOT;
	}
	count(ONEVIP_EGRESS, ONEVIP_GUARD_REWROTE);
	return TC_ACT_UNSPEC;
}

#endif
