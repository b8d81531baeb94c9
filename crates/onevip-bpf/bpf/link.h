/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The Ethernet header and what tags follow it.
 */
#ifndef ONEVIP_LINK_H
#define ONEVIP_LINK_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define VLAN_TAGS_MAX 2
#define VLAN_ID_MASK 0x0fff

struct vlan_tag {
	__be16 tci;
	__be16 type;
};

/* What the link header says. */
struct link {
	__be16 type; /* EtherType behind any priority tags */
	__u32 network; /* offset of what it announces */
};

/* Reads the link header; false for frames that are not ours to read: cut short, or of a VLAN, whose device has a
 * program of its own. A third tag is left as an EtherType that nobody knows. */
static __always_inline bool link_read(void *data, void *end, struct link *link)
{
	struct ethhdr *ethernet = data;

	if ((void *)(ethernet + 1) > end)
		return false;
	link->type = ethernet->h_proto;
	link->network = sizeof(*ethernet);
#pragma unroll
	for (int i = 0; i < VLAN_TAGS_MAX; i++) {
		struct vlan_tag *tag = data + link->network;

		if (link->type != bpf_htons(ETH_P_8021Q) && link->type != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > end)
			return false;
		if (tag->tci & bpf_htons(VLAN_ID_MASK))
			return false;
		link->type = tag->type;
		link->network += sizeof(*tag);
	}
	return true;
}

static __always_inline bool mac_equal(const __u8 *one, const __u8 *other)
{
	return one[0] == other[0] && one[1] == other[1] && one[2] == other[2] && one[3] == other[3] &&
	       one[4] == other[4] && one[5] == other[5];
}

#endif
