/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ARP messages between Ethernet and IPv4, the only ones that can name a VIP.
 */
#ifndef ONEVIP_ARP_H
#define ONEVIP_ARP_H

#include "link.h"

#define ARPHRD_ETHER 1
#define ARPOP_REQUEST 1
#define ARPOP_REPLY 2

struct arp_message {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__be32 sender;
	__u8 target_mac[ETH_ALEN];
	__be32 target;
} __attribute__((packed));

/* The message at this place of the frame, or NULL when it is cut short or speaks of something else. */
static __always_inline struct arp_message *arp_read(void *network, void *end)
{
	struct arp_message *arp = network;

	if ((void *)(arp + 1) > end)
		return NULL;
	if (arp->hardware != bpf_htons(ARPHRD_ETHER) || arp->protocol != bpf_htons(ETH_P_IP) ||
	    arp->hardware_length != ETH_ALEN || arp->protocol_length != sizeof(arp->sender))
		return NULL;
	if (arp->operation != bpf_htons(ARPOP_REQUEST) && arp->operation != bpf_htons(ARPOP_REPLY))
		return NULL;
	return arp;
}

#endif
