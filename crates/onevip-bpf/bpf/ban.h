/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Bans: sources whose packets to a VIP reach nobody.
 *
 * They are looked at only where a packet would otherwise pass, so what other nodes answer costs nothing more; and what
 * passes costs a glance at a counter while nobody is banned. Beats, ARP and neighbour discovery are not subject to
 * them: those are the LAN's and the cluster's own, and a ban must not take a router away from anybody.
 */
#ifndef ONEVIP_BAN_H
#define ONEVIP_BAN_H

#include "verdict.h"

/* Writer of all three: the daemon. The tries are allocated as they grow. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, ONEVIP_BAN_PLACES);
	__type(key, struct onevip_ban_key4);
	__type(value, struct onevip_ban);
} onevip_bans4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, ONEVIP_BAN_PLACES);
	__type(key, struct onevip_ban_key6);
	__type(value, struct onevip_ban);
} onevip_bans6 SEC(".maps");

/* How many entries each trie has: IPv4, IPv6. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32[2]);
} onevip_banned SEC(".maps");

/* Whether the sender's own packets are what this reason is about, and not the cluster's or the LAN's. */
static __always_inline bool reason_is_of_sender(enum onevip_reason reason)
{
	switch (reason) {
	case ONEVIP_NOT_OURS:
	case ONEVIP_ARP_ANSWER:
	case ONEVIP_ARP_TO_VIP:
	case ONEVIP_ND_ANSWER:
	case ONEVIP_ND_TO_VIP:
		return false;
	default:
		return true;
	}
}

/* What may belong to a session that is here already. */
static __always_inline bool reason_is_of_session(enum onevip_reason reason)
{
	return reason == ONEVIP_TCP_HELD || reason == ONEVIP_UDP_HELD || reason == ONEVIP_TCP_TIME_WAIT || reason == ONEVIP_ICMP_ERROR_OWN ||
	       reason == ONEVIP_FRAGMENT_OWN;
}

/* Whether a ban is in force. It ends by itself, whatever became of the daemon; the clock is read only for those whom
 * there is something about. */
static __always_inline bool ban_holds(const struct onevip_ban *ban, bool session)
{
	return ban && bpf_ktime_get_boot_ns() < (session ? ban->everything_until_ns : ban->openings_until_ns);
}

/* Not static, so that the verifier looks at it once. The address comes as its two halves, an IPv4 address as the
 * first. */
__noinline int source_banned(__u64 start, __u64 end, __u32 is_v6, __u32 session)
{
	struct onevip_ban_key6 key6 = { .length = 128 };
	struct onevip_ban_key4 key4 = { .length = 32 };

	if (!is_v6) {
		key4.address = start;
		return ban_holds(bpf_map_lookup_elem(&onevip_bans4, &key4), session);
	}
	key6.words[0] = start;
	key6.words[1] = start >> 32;
	key6.words[2] = end;
	key6.words[3] = end >> 32;
	return ban_holds(bpf_map_lookup_elem(&onevip_bans6, &key6), session);
}

/* Whether the sender of a packet that would pass for this reason is banned. */
static __always_inline bool sender_is_banned(void *data, void *end, const struct verdict *verdict)
{
	__u32 zero = 0, network = verdict->network & 31;
	struct ipv6hdr *ipv6 = data + network;
	struct iphdr *ip = data + network;
	bool session = reason_is_of_session(verdict->reason);
	const __u32 *banned;

	if (!reason_is_of_sender(verdict->reason))
		return false;
	banned = bpf_map_lookup_elem(&onevip_banned, &zero);
	if (!banned || !(READ_ONCE(banned[0]) | READ_ONCE(banned[1])))
		return false;
	if ((void *)(ip + 1) > end)
		return false;
	if (ip->version == 4)
		return source_banned(ip->saddr, 0, false, session);
	if ((void *)(ipv6 + 1) > end)
		return false;
	return source_banned(ipv6_half(ipv6->saddr.s6_addr32), ipv6_half(ipv6->saddr.s6_addr32 + 2), true, session);
}

#endif
