/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Limits: how many connections a source may open within a time. The twin of crates/onevip-core/src/limit.rs.
 *
 * Looked at only for a SYN that would pass, to a service that has a limit. A source's last attempts are kept in one of
 * four places that its hash chooses, with the source beside them, so that no two ever share a count; when four others
 * have been there lately, the one that was quiet for longest is forgotten, and may begin anew.
 */
#ifndef ONEVIP_LIMIT_H
#define ONEVIP_LIMIT_H

#include "verdict.h"

/* Writers: the ingress program, under each place's lock; the daemon, when counts arrive from another node. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ONEVIP_SOURCES);
	__type(key, __u32);
	__type(value, struct onevip_source);
} onevip_sources SEC(".maps");

/* Writer: the daemon. Who is not counted: by number of the limit, then address. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, ONEVIP_ALLOWED_MAX);
	__type(key, struct onevip_allowed_key);
	__type(value, __u8);
} onevip_allowed SEC(".maps");

/* Writer: the ingress program. Reader: the daemon, which sends the answers. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, ONEVIP_REFUSALS_BYTES);
} onevip_refusals SEC(".maps");

#define LIMIT_OF_IPV6 1
#define LIMIT_DRY_RUN 2

/* The limit of this number, which is not 0. */
static __always_inline const struct onevip_limit *limit_at(const struct onevip_settings *settings, __u32 number)
{
	return &settings->limits[INDEX(number - 1, ONEVIP_LIMITS_MAX)];
}

/* The number of the limit on a VIP's TCP port (network order), or 0. */
static __always_inline __u32 limit_find(const struct onevip_settings *settings, __u32 vip, __be16 port)
{
	int service;

	if (!settings->limit_count)
		return 0;
	service = service_find(settings, vip, IPPROTO_TCP, bpf_ntohs(port));
	return service < 0 ? 0 : service_at(settings, service)->limit;
}

static __always_inline __u64 half_masked(__u64 half, __s32 prefix)
{
	if (prefix >= 64)
		return half;
	return prefix > 0 ? half & bpf_cpu_to_be64(~0ull << (64 - prefix)) : 0;
}

static __always_inline bool source_is_at(const struct onevip_source *place, __u64 start, __u64 end, __u32 owner)
{
	return place->start == start && place->end == end && place->owner == owner;
}

/* The four words of an address that comes as its two halves. */
static __always_inline void address_words(__u64 start, __u64 end, __u32 *words)
{
	words[0] = start;
	words[1] = start >> 32;
	words[2] = end;
	words[3] = end >> 32;
}

/* Completes the key by which a source is looked for among those that are not counted. */
static __always_inline void allowed_key_fill(struct onevip_allowed_key *key, __u32 owner, __u64 start, __u64 end)
{
	key->owner = owner;
	address_words(start, end, key->words);
}

/* Which of the sets of places a source may be in. */
static __always_inline __u32 source_set(__u64 start, __u64 end, __u32 owner, __u32 seed)
{
	__u32 words[4];

	address_words(start, end, words);
	return jhash_ipv6(words, owner, 0, 5, seed) & (ONEVIP_SOURCES / ONEVIP_WAYS - 1);
}

/* Gives a place to a source, unless it has it already. */
static __always_inline void source_take(struct onevip_source *place, __u64 start, __u64 end, __u32 owner)
{
	if (!source_is_at(place, start, end, owner)) {
		place->start = start;
		place->end = end;
		place->owner = owner;
		place->refused = 0;
	}
}

/*
 * Counts an attempt, and says whether it is one too many. The address comes as its two halves, an IPv4 address as the
 * first; `how` is LIMIT_OF_IPV6 and LIMIT_DRY_RUN, which only asks and counts nothing: a function of BPF takes five
 * arguments. Not static, so that the verifier looks at it once.
 */
__noinline int limit_exceeded(const struct onevip_settings *settings, __u32 number, __u64 start, __u64 end, __u32 how)
{
	__u32 is_v6 = how & LIMIT_OF_IPV6, owner = number | is_v6 << 8, set, chosen = 0, burst, window, tick, at;
	struct onevip_allowed_key key = { .length = 32 + 128 };
	struct onevip_source *place = NULL, *candidate;
	const struct onevip_limit *limit;
	__u64 now, longest_ago = ~0ull;
	bool over, counts, recent;

	if (!settings || !number)
		return 0;
	limit = limit_at(settings, number);
	allowed_key_fill(&key, owner, start, end);
	if (bpf_map_lookup_elem(&onevip_allowed, &key))
		return 0;
	if (is_v6) {
		end = half_masked(end, (__s32)limit->v6_prefix - 64);
		start = half_masked(start, limit->v6_prefix);
	} else {
		start = limit->v4_prefix < 32 ? start & bpf_htonl(~0u << (32 - limit->v4_prefix)) : start;
	}
	set = source_set(start, end, owner, settings->limit_seed);
	now = bpf_ktime_get_boot_ns();
	tick = now / 1000000;
#pragma unroll
	for (int way = 0; way < ONEVIP_WAYS; way++) {
		__u32 index = set * ONEVIP_WAYS + way;

		candidate = bpf_map_lookup_elem(&onevip_sources, &index);
		if (!candidate)
			return 0;
		if (source_is_at(candidate, start, end, owner)) {
			chosen = index;
			break;
		}
		if (candidate->last_ns < longest_ago) {
			longest_ago = candidate->last_ns;
			chosen = index;
		}
	}
	place = bpf_map_lookup_elem(&onevip_sources, &chosen);
	if (!place)
		return 0;
	burst = limit->burst;
	window = limit->window_ms;
	counts = limit->counts_refused;
	if (how & LIMIT_DRY_RUN && !source_is_at(place, start, end, owner))
		return 0;
	bpf_spin_lock(&place->lock);
	recent = source_is_at(place, start, end, owner) && now - place->last_ns <= (__u64)window * 1000000;
	/* The attempt that came `burst` before this one is the oldest that matters. */
	at = place->stamps[INDEX(place->attempts - burst, ONEVIP_BURST_MAX)];
	over = recent && place->attempts >= burst && tick - at <= window;
	if (how & LIMIT_DRY_RUN) {
		bpf_spin_unlock(&place->lock);
		return over;
	}
	source_take(place, start, end, owner);
	if (!recent)
		place->attempts = 0;
	if (!over || counts) {
		place->stamps[INDEX(place->attempts, ONEVIP_BURST_MAX)] = tick;
		place->attempts++;
		place->last_ns = now;
	}
	if (over)
		place->refused++;
	bpf_spin_unlock(&place->lock);
	return over;
}

/* Whether a SYN that would pass is one too many of its source's; the number of the limit that says so, or 0. */
static __always_inline __u32 sender_is_over(struct packet_context *pkt, void *data, const struct verdict *verdict)
{
	__u32 network = verdict->network & 31, number, how = pkt->dry_run ? LIMIT_DRY_RUN : 0;
	struct ipv6hdr *ipv6 = data + network;
	struct iphdr *ip = data + network;

	number = limit_find(pkt->settings, pkt->vip, pkt->service_port);
	if (!number || (void *)(ip + 1) > pkt->end)
		return 0;
	if (ip->version == 4)
		return limit_exceeded(pkt->settings, number, ip->saddr, 0, how) ? number : 0;
	if ((void *)(ipv6 + 1) > pkt->end)
		return 0;
	return limit_exceeded(pkt->settings, number, ipv6_half(ipv6->saddr.s6_addr32),
			      ipv6_half(ipv6->saddr.s6_addr32 + 2), how | LIMIT_OF_IPV6) ?
		       number :
		       0;
}

/* Asks the daemon to answer a refused SYN, or to reset an orphan, if there is room. */
static __always_inline void refusal_report(struct __sk_buff *skb, const struct verdict *verdict, __u32 action)
{
	struct onevip_refusal *refusal;
	__u32 length = skb->len - verdict->network;

	if (action == ONEVIP_LIMIT_DROP)
		return;
	refusal = bpf_ringbuf_reserve(&onevip_refusals, sizeof(*refusal), 0);
	if (!refusal)
		return;
	refusal->ifindex = skb->ifindex;
	refusal->action = action;
	if (length > sizeof(refusal->packet))
		length = sizeof(refusal->packet);
	refusal->length = length;
	/* Both bounds one after the other, for the verifier: see beat_hand_over(). */
	asm volatile("" : "+r"(length));
	if (length < sizeof(struct iphdr))
		goto unread;
	asm volatile("" : "+r"(length));
	if (length > sizeof(refusal->packet) ||
	    bpf_skb_load_bytes(skb, verdict->network, refusal->packet, length) ||
	    bpf_skb_load_bytes(skb, 0, refusal->ethernet, sizeof(refusal->ethernet)))
		goto unread;
	bpf_ringbuf_submit(refusal, 0);
	return;
unread:
	bpf_ringbuf_discard(refusal, 0);
}

#endif
