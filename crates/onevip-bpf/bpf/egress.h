/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tc egress: the guard. No ARP message that says where the VIP is leaves with the interface's own MAC in it.
 *
 * The Ethernet source stays the interface's own, so that switches never learn the cluster MAC on a port.
 */
#ifndef ONEVIP_EGRESS_H
#define ONEVIP_EGRESS_H

#include <linux/pkt_cls.h>
#include "arp.h"
#include "maps.h"

SEC("classifier")
int onevip_egress(struct __sk_buff *skb)
{
	const struct onevip_settings *settings = settings_now();
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	const struct onevip_vip *vip;
	struct arp_message *arp;
	struct link link;
	int sender;

	if (!settings || (skb->vlan_present && skb->vlan_tci & VLAN_ID_MASK))
		return TC_ACT_UNSPEC;
	if (!link_read(data, end, &link) || link.type != bpf_htons(ETH_P_ARP))
		return TC_ACT_UNSPEC;
	arp = arp_read(data + link.network, end);
	if (!arp)
		return TC_ACT_UNSPEC;
	sender = address_find_ipv4(settings, arp->sender);
	if (sender < 0)
		return TC_ACT_UNSPEC;
	vip = &settings->vips[address_vip(settings, sender)];
	if (mac_equal(arp->sender_mac, vip->cluster_mac))
		return TC_ACT_UNSPEC;
	if (bpf_skb_store_bytes(skb, link.network + offsetof(struct arp_message, sender_mac), vip->cluster_mac,
				sizeof(vip->cluster_mac), 0)) {
		count(ONEVIP_EGRESS, ONEVIP_GUARD_FAILED);
		return TC_ACT_SHOT;
	}
	count(ONEVIP_EGRESS, ONEVIP_GUARD_REWROTE);
	return TC_ACT_UNSPEC;
}

#endif
