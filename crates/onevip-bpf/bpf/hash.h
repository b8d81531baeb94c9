/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From a packet's source to its bucket. The twin of crates/onevip-core/src/hash.rs, which says where the functions
 * come from (lookup3, as include/linux/jhash.h has it).
 */
#ifndef ONEVIP_HASH_H
#define ONEVIP_HASH_H

#include <bpf/bpf_endian.h>
#include <linux/in.h>
#include "maps.h"
#include "exception.h"
#include "service.h"

#define JHASH_INITVAL 0xdeadbeefu

static __always_inline __u32 rotate_left(__u32 word, __u32 by)
{
	return word << by | word >> (32 - by);
}

/* jhash2() of at most three words, which needs no mixing round. */
static __always_inline __u32 jhash_short(__u32 first, __u32 second, __u32 third, __u32 count, __u32 seed)
{
	__u32 start = JHASH_INITVAL + (count << 2) + seed;
	__u32 a = start + first, b = start + second, c = start + third;

	c = (c ^ b) - rotate_left(b, 14);
	a = (a ^ c) - rotate_left(c, 11);
	b = (b ^ a) - rotate_left(a, 25);
	c = (c ^ b) - rotate_left(b, 16);
	a = (a ^ c) - rotate_left(c, 4);
	b = (b ^ a) - rotate_left(a, 14);
	return (c ^ b) - rotate_left(b, 24);
}

/*
 * jhash2() of one word, begun by the daemon. BPF cannot rotate: shifts and moves make it five instructions. Beside its
 * twin, as the upper half of a 64-bit word, a word needs but one shift: three instructions. (The multiplier is hidden
 * from the compiler, which would turn the multiplication into shifts again.)
 */
static __always_inline __u32 jhash_finish(const struct onevip_jhash *begun, __u32 word)
{
	__u32 a, b = begun->b, c = begun->c;
	__u64 twin = (1ull << 32) + 1;

	asm volatile("" : "+r"(twin));
	a = ((b + word) ^ c) - begun->c_rotated;
	b = (b ^ a) - (__u32)(a * twin >> (32 - 25));
	c = (c ^ b) - (__u32)(b * twin >> (32 - 16));
	a = (a ^ c) - (__u32)(c * twin >> (32 - 4));
	b = (b ^ a) - (__u32)(a * twin >> (32 - 14));
	return (c ^ b) - (__u32)(b * twin >> (32 - 24));
}

/*
 * jhash2() of the four words of an IPv6 address and, behind them, of as many others as `count` says beyond four. (For
 * the twins see jhash_finish().)
 */
static __always_inline __u32 jhash_ipv6(const __u32 *words, __u32 fifth, __u32 sixth, __u32 count, __u32 seed)
{
	__u32 a, b, c, start = JHASH_INITVAL + (count << 2) + seed;
	__u64 twin = (1ull << 32) + 1;

	asm volatile("" : "+r"(twin));
	a = start + words[0];
	b = start + words[1];
	c = start + words[2];
	a = (a - c) ^ (__u32)(c * twin >> (32 - 4));
	c += b;
	b = (b - a) ^ (__u32)(a * twin >> (32 - 6));
	a += c;
	c = (c - b) ^ (__u32)(b * twin >> (32 - 8));
	b += a;
	a = (a - c) ^ (__u32)(c * twin >> (32 - 16));
	c += b;
	b = (b - a) ^ (__u32)(a * twin >> (32 - 19));
	a += c;
	c = (c - b) ^ (__u32)(b * twin >> (32 - 4));
	b += a;

	a += words[3];
	b += fifth;
	c += sixth;
	c = (c ^ b) - (__u32)(b * twin >> (32 - 14));
	a = (a ^ c) - (__u32)(c * twin >> (32 - 11));
	b = (b ^ a) - (__u32)(a * twin >> (32 - 25));
	c = (c ^ b) - (__u32)(b * twin >> (32 - 16));
	a = (a ^ c) - (__u32)(c * twin >> (32 - 4));
	b = (b ^ a) - (__u32)(a * twin >> (32 - 14));
	return (c ^ b) - (__u32)(b * twin >> (32 - 24));
}

static __always_inline __u32 reciprocal_scale(__u32 hash, __u32 range)
{
	return ((__u64)hash * range) >> 32;
}

/* The first bucket of a block when the buckets lie in this many contiguous blocks. */
static __always_inline __u32 block_start(__u32 block, __u32 blocks)
{
	return (block * ONEVIP_BUCKETS + blocks - 1) / blocks;
}

static __always_inline __u32 bucket_of_hash(__u32 hash, __u32 blocks)
{
	__u64 scaled;
	__u32 start, end;

	if (!blocks)
		return reciprocal_scale(hash, ONEVIP_BUCKETS);
	scaled = (__u64)hash * blocks;
	start = block_start(scaled >> 32, blocks);
	end = block_start((scaled >> 32) + 1, blocks);
	return start + reciprocal_scale((__u32)scaled, end - start);
}

/* A word of the address as it enters the hash, when this many of its leading bits count. */
static __always_inline __u32 address_word(const struct onevip_vip *vip, __be32 word, __s32 prefix)
{
	if (prefix < 32)
		word &= prefix > 0 ? bpf_htonl(~0u << (32 - prefix)) : 0;
	return vip->order == ONEVIP_ORDER_HOST ? bpf_ntohl(word) : word;
}

/* What of a source counts. */
struct way {
	__u8 mode; /* enum onevip_hash_mode */
	__u8 v4_prefix;
	__u8 v6_prefix;
};

/* The way of the service on this port (host order), or the VIP's own; protocol 0 for packets without ports. */
static __always_inline struct way way_of(const struct onevip_settings *settings, const struct onevip_vip *vip,
					 __u32 vip_index, __u32 protocol, __u32 port)
{
	struct way way = { .mode = vip->mode, .v4_prefix = vip->v4_prefix, .v6_prefix = vip->v6_prefix };
	const struct onevip_service *service;
	int index;

	if (!protocol)
		return way;
	index = service_find(settings, vip_index, protocol, port);
	if (index < 0)
		return way;
	service = service_at(settings, index);
	way.mode = service->mode;
	way.v4_prefix = service->v4_prefix;
	way.v6_prefix = service->v6_prefix;
	return way;
}

/* The way that an exception has instead, if it is about ways. */
static __always_inline struct way way_of_exception(const struct onevip_exception *exception, struct way way)
{
	if (!exception || exception->bucket_count)
		return way;
	way.mode = exception->mode;
	way.v4_prefix = exception->v4_prefix;
	way.v6_prefix = exception->v6_prefix;
	return way;
}

/* The bucket that a hash selects: of all, or of those reserved for the node that the source is pinned to. */
static __always_inline __u32 bucket_of(const struct onevip_exception *exception, __u32 hash, __u32 blocks)
{
	if (exception && exception->bucket_count)
		return exception->buckets[INDEX(reciprocal_scale(hash, exception->bucket_count), ONEVIP_RESERVED)];
	return bucket_of_hash(hash, blocks);
}

/* How many words the ports add to the address. */
static __always_inline __u32 port_words(__u8 mode)
{
	if (mode == ONEVIP_SOURCE_IP_PORT_DEST_PORT)
		return 2;
	return mode == ONEVIP_SOURCE_IP_PORT ? 1 : 0;
}

/*
 * Any way of choosing a bucket but the default. A function of its own, so that it is there once and out of the way; and
 * not a static one, so that the verifier looks at its many ways once, and not again wherever it is called. `which` is
 * the index of the VIP and, from bit 8 on, the protocol: a function of BPF takes five arguments.
 */
__noinline __u32 bucket_ipv4_special(const struct onevip_settings *settings, __u32 which, __be32 source, __u32 ports)
{
	const struct onevip_exception *exception = NULL;
	const struct onevip_vip *vip;
	__u32 count, hash;
	struct way way;

	if (!settings)
		return 0;
	vip = &settings->vips[INDEX(which, ONEVIP_VIPS_MAX)];
	if (vip->exceptions) {
		__be32 words[4] = { source };

		exception = exception_find(settings, which & 0xff, ONEVIP_FAMILY_IPV4, words);
	}
	way = way_of(settings, vip, which & 0xff, which >> 8, ports & 0xffff);
	way = way_of_exception(exception, way);
	count = port_words(way.mode);
	hash = jhash_short(address_word(vip, source, way.v4_prefix), count > 0 ? ports >> 16 : 0,
			   count > 1 ? ports & 0xffff : 0, 1 + count, vip->seed);
	return bucket_of(exception, hash, vip->blocks);
}

/* The same for IPv6. The address comes as its two halves. */
__noinline __u32 bucket_ipv6_special(const struct onevip_settings *settings, __u32 which, __u64 start, __u64 end,
				     __u32 ports)
{
	__u32 count, hash, words[4] = { start, start >> 32, end, end >> 32 };
	const struct onevip_exception *exception = NULL;
	const struct onevip_vip *vip;
	struct way way;

	if (!settings)
		return 0;
	vip = &settings->vips[INDEX(which, ONEVIP_VIPS_MAX)];
	if (vip->exceptions)
		exception = exception_find(settings, which & 0xff, ONEVIP_FAMILY_IPV6, words);
	way = way_of(settings, vip, which & 0xff, which >> 8, ports & 0xffff);
	way = way_of_exception(exception, way);
	words[0] = address_word(vip, start, way.v6_prefix);
	words[1] = address_word(vip, start >> 32, way.v6_prefix - 32);
	words[2] = address_word(vip, end, way.v6_prefix - 64);
	words[3] = address_word(vip, end >> 32, way.v6_prefix - 96);
	count = port_words(way.mode);
	hash = jhash_ipv6(words, count > 0 ? ports >> 16 : 0, count > 1 ? ports & 0xffff : 0, 4 + count, vip->seed);
	return bucket_of(exception, hash, vip->blocks);
}

/* What tells TCP flows apart in the memory of orphans. Ports in host order. */
static __always_inline __u32 flow_hash_ipv4(__u32 vip, __be32 source, __be16 source_port, __be16 dest_port)
{
	return jhash_short(source, bpf_ntohs(source_port) << 16 | bpf_ntohs(dest_port), vip, 3,
			   ONEVIP_ORPHANS_SEED);
}

static __always_inline __u32 flow_hash_ipv6(__u32 vip, const __be32 *source, __be16 source_port, __be16 dest_port)
{
	return jhash_ipv6(source, bpf_ntohs(source_port) << 16 | bpf_ntohs(dest_port), vip, 6, ONEVIP_ORPHANS_SEED);
}

/* A source's word in the flags and last_syn maps. Packets without ports come with protocol and ports 0. */
static __always_inline __u32 word_ipv4(const struct onevip_settings *settings, __u32 vip_index, __be32 source,
				       __u32 protocol, __be16 source_port, __be16 dest_port)
{
	const struct onevip_vip *vip = &settings->vips[INDEX(vip_index, ONEVIP_VIPS_MAX)];
	__u32 bucket;

	if (vip->plain)
		bucket = reciprocal_scale(jhash_finish(&vip->begun, source), ONEVIP_BUCKETS);
	else
		bucket = bucket_ipv4_special(settings, vip_index | protocol << 8, source,
					     bpf_ntohs(source_port) << 16 | bpf_ntohs(dest_port));
	return vip_index * ONEVIP_BUCKETS + (bucket & (ONEVIP_BUCKETS - 1));
}

static __always_inline __u32 word_ipv6(const struct onevip_settings *settings, __u32 vip_index, const __be32 *source,
				       __u32 protocol, __be16 source_port, __be16 dest_port)
{
	const struct onevip_vip *vip = &settings->vips[INDEX(vip_index, ONEVIP_VIPS_MAX)];
	__u32 bucket;

	if (vip->plain)
		bucket = reciprocal_scale(jhash_ipv6(source, 0, 0, 4, vip->seed), ONEVIP_BUCKETS);
	else
		bucket = bucket_ipv6_special(settings, vip_index | protocol << 8, ipv6_half(source),
					     ipv6_half(source + 2),
					     bpf_ntohs(source_port) << 16 | bpf_ntohs(dest_port));
	return vip_index * ONEVIP_BUCKETS + (bucket & (ONEVIP_BUCKETS - 1));
}

#endif
