/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The IPv6 header and the extension headers behind it.
 */
#ifndef ONEVIP_IPV6_H
#define ONEVIP_IPV6_H

#include <stdbool.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* More extension headers than this, or more bytes of them, and a packet is malformed. Classified by its bucket instead, it
 * could carry a segment of another node's session past the socket lookup, to be reset here. */
#define EXTENSIONS_MAX 6
#define EXTENSIONS_BYTES_MAX 128

#define IPV6_OFFSET_MASK 0xfff8
#define IPV6_MORE_FRAGMENTS 1

/* The start of any extension header; the third field is the fragment header's. */
struct extension {
	__u8 next;
	__u8 length; /* in units of 8 bytes, the first of which does not count */
	__be16 fragment;
	__be32 rest;
};

/* What lies behind the headers. */
struct chain {
	void *transport;
	__u8 protocol;
	bool later; /* a fragment other than the first: nothing else is known */
	bool first; /* the first of several fragments */
};

/* Authentication and encapsulation are protocols of their own here, as they are in IPv4. */
static __always_inline bool ipv6_is_extension(__u8 protocol)
{
	const __u64 extensions = 1ull << IPPROTO_HOPOPTS | 1ull << IPPROTO_ROUTING | 1ull << IPPROTO_FRAGMENT |
				 1ull << IPPROTO_DSTOPTS;

	return protocol < 64 && extensions >> protocol & 1;
}

/* Keeps the verifier sure that an offset is small, also where it forgets what it knew of a number on the stack. */
#define BOUNDED(offset) asm volatile("%0 &= 0x1ff" : "+r"(offset))

/*
 * Follows the extension headers; false when they are cut short or too many. The lengths are computed rather than
 * chosen, because the verifier goes every way through six headers, and there must not be too many.
 */
static __always_inline bool chain_walk(struct ipv6hdr *ip, void *end, struct chain *chain)
{
	__u64 offset = sizeof(*ip);
	__u32 fragments = 0;
	__u8 protocol = ip->nexthdr;

	chain->later = false;
#pragma unroll
	for (int i = 0; i < EXTENSIONS_MAX; i++) {
		struct extension *header;
		__u32 is_longer, fragment;

		if (!ipv6_is_extension(protocol))
			break;
		BOUNDED(offset);
		header = (void *)ip + offset;
		if ((void *)(header + 1) > end)
			return false;
		/* 1 for all but a fragment header, whose second byte means nothing. */
		is_longer = protocol ^ IPPROTO_FRAGMENT;
		is_longer = (is_longer | -is_longer) >> 31;
		fragment = bpf_ntohs(header->fragment) & (is_longer - 1);
		if (fragment & IPV6_OFFSET_MASK) {
			chain->later = true;
			return true;
		}
		fragments |= fragment;
		offset += (header->length * is_longer + 1) * 8;
		if (offset > sizeof(*ip) + EXTENSIONS_BYTES_MAX)
			return false;
		protocol = header->next;
	}
	BOUNDED(offset);
	chain->transport = (void *)ip + offset;
	chain->protocol = protocol;
	chain->first = fragments & IPV6_MORE_FRAGMENTS;
	return !ipv6_is_extension(protocol);
}

#endif
