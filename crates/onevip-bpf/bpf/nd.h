/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Neighbour discovery: the messages that can say where a VIP is.
 */
#ifndef ONEVIP_ND_H
#define ONEVIP_ND_H

#include "ipv6.h"
#include "link.h"

/* <linux/icmpv6.h> drags the C library in, so what we need of it stands here. */
#define ND_ROUTER_SOLICITATION 133
#define ND_ROUTER_ADVERTISEMENT 134
#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136
#define ND_REDIRECT 137

#define ND_SOURCE_LINK_ADDRESS 1
#define ND_TARGET_LINK_ADDRESS 2
/* How far the options of a message are read. */
#define ND_OPTIONS_MAX 4
#define ND_OPTIONS_BYTES_MAX 64

/* A router on the way takes one off: only who is on the LAN can send this. */
#define ND_HOP_LIMIT 255

struct icmpv6_header {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 rest;
};

/* Neighbour solicitation or advertisement. */
struct nd_message {
	struct icmpv6_header icmp;
	__be32 target[4];
};

struct nd_link_address {
	__u8 type;
	__u8 length; /* in units of 8 bytes */
	__u8 mac[ETH_ALEN];
};

/* The option of this type among those from `options` on, or NULL. */
static __always_inline struct nd_link_address *nd_link_address(void *options, void *end, __u8 type)
{
	__u64 offset = 0;

#pragma unroll
	for (int i = 0; i < ND_OPTIONS_MAX; i++) {
		struct nd_link_address *option;

		BOUNDED(offset);
		option = options + offset;
		if ((void *)(option + 1) > end || !option->length)
			return NULL;
		if (option->type == type)
			return option;
		offset += option->length * 8;
		if (offset > ND_OPTIONS_BYTES_MAX)
			return NULL;
	}
	return NULL;
}

#endif
