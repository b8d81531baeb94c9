/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Effects: of what came in to open something, and of what left for it, counted where it happens.
 *
 * A node that lets SYNs in and from which no SYN-ACK leaves serves nobody, whatever the reason: a filter, a missing
 * route, another program. Only openings are counted; segments of sessions pay two instructions.
 */
#ifndef ONEVIP_EFFECT_H
#define ONEVIP_EFFECT_H

#include <linux/in.h>
#include <linux/tcp.h>
#include "classify.h"
#include "limit.h"
#include "nd.h"

/* Writers: ingress and egress, each CPU its own copy. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct onevip_effects);
} onevip_effects SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct onevip_clients);
} onevip_clients SEC(".maps");

/* Offsets of the addresses in the headers of IP. */
#define IPV4_SOURCE 12
#define IPV4_DEST 16
#define IPV6_SOURCE 8
#define IPV6_DEST 24
/* No address lies further from the start of a frame: two tags, and an IPv6 header up to its destination. */
#define PEER_AT_MAX 64
#define ND_SOLICITED 0x40000000

static __always_inline enum onevip_kind kind_of_ipv4(const struct onevip_clients *clients, __be32 peer)
{
	for (__u32 i = 0; i < ONEVIP_ON_LINK_MAX; i++)
		if ((peer & clients->v4[i].mask) == clients->v4[i].network)
			return ONEVIP_ON_LINK;
	return ONEVIP_ROUTED;
}

static __always_inline enum onevip_kind kind_of_ipv6(const struct onevip_clients *clients, __u64 start, __u64 end)
{
	for (__u32 i = 0; i < ONEVIP_ON_LINK_MAX; i++)
		if ((start & clients->v6[i].mask[0]) == clients->v6[i].network[0] &&
		    (end & clients->v6[i].mask[1]) == clients->v6[i].network[1])
			return ONEVIP_ON_LINK;
	return ONEVIP_ROUTED;
}

static __always_inline void effect_count(__u32 address, enum onevip_kind kind, __u32 effect)
{
	__u32 zero = 0;
	struct onevip_effects *effects = bpf_map_lookup_elem(&onevip_effects, &zero);

	if (effects)
		effects->counts[INDEX(address, ONEVIP_ADDRESSES_MAX)][INDEX(kind, ONEVIP_KINDS)]
			       [INDEX(effect, ONEVIP_EFFECTS_ROOM)] += 1;
}

/* Counts an effect on the client whose address lies at `peer_at` of the frame; `port` is the service's where only that of
 * the checked service counts, else 0. A filter may well drop what comes to other ports. Not static, so that the verifier
 * looks at it once. */
__noinline int effect_on_client(struct __sk_buff *skb, __u32 effect, __u32 address, __u32 peer_at, __u32 port)
{
	const struct onevip_settings *settings = settings_now();
	__u32 zero = 0, place = INDEX(address, ONEVIP_ADDRESSES_MAX);
	struct onevip_clients *clients = bpf_map_lookup_elem(&onevip_clients, &zero);
	void *end = (void *)(long)skb->data_end;
	__be32 *peer = (void *)(long)skb->data + INDEX(peer_at, PEER_AT_MAX), *newest;
	enum onevip_kind kind;

	if (!settings || !clients)
		return 0;
	if (port && clients->port[place] && clients->port[place] != port)
		return 0;
	if (settings->addresses[place].family == ONEVIP_FAMILY_IPV6) {
		if ((void *)(peer + 4) > end)
			return 0;
		kind = kind_of_ipv6(clients, ipv6_half(peer), ipv6_half(peer + 2));
		newest = clients->newest[place][INDEX(kind, ONEVIP_KINDS)];
		if (effect == ONEVIP_SYN_IN) {
			newest[1] = peer[1];
			newest[2] = peer[2];
			newest[3] = peer[3];
		}
	} else {
		if ((void *)(peer + 1) > end)
			return 0;
		kind = kind_of_ipv4(clients, *peer);
		newest = clients->newest[place][INDEX(kind, ONEVIP_KINDS)];
	}
	if (effect == ONEVIP_SYN_IN)
		newest[0] = peer[0];
	effect_count(place, kind, effect);
	return 0;
}

/* Whether a solicitation comes from a host that has no address yet and asks whether it may have this one (RFC 4862, 5.4.2):
 * the answer to it goes to all, unsolicited. */
static __always_inline bool nd_is_for_duplicates(struct __sk_buff *skb, __u32 network)
{
	struct ipv6hdr *ip = (void *)(long)skb->data + INDEX(network, PEER_AT_MAX);

	return (void *)(ip + 1) <= (void *)(long)skb->data_end &&
	       !(ip->saddr.s6_addr32[0] | ip->saddr.s6_addr32[1] | ip->saddr.s6_addr32[2] | ip->saddr.s6_addr32[3]);
}

/* Whether orphans are reset by the daemon, since the stack's resets do not leave this host. */
static __always_inline bool daemon_resets(void)
{
	__u32 zero = 0;
	struct onevip_clients *clients = bpf_map_lookup_elem(&onevip_clients, &zero);

	return clients && READ_ONCE(clients->resets);
}

/* What was let in. */
static __always_inline void effect_in(struct __sk_buff *skb, const struct packet_context *pkt,
				      const struct verdict *verdict)
{
	bool is_v6 = pkt->settings->addresses[INDEX(verdict->address, ONEVIP_ADDRESSES_MAX)].family ==
		     ONEVIP_FAMILY_IPV6;
	__u32 peer_at = verdict->network + (is_v6 ? IPV6_SOURCE : IPV4_SOURCE);

	switch (verdict->reason) {
	case ONEVIP_SYN_OWN:
		effect_on_client(skb, ONEVIP_SYN_IN, verdict->address, peer_at, pkt->service_port);
		return;
	case ONEVIP_TCP_HALF_OPEN:
	case ONEVIP_TCP_COOKIE:
		effect_on_client(skb, ONEVIP_HANDSHAKE_IN, verdict->address, peer_at, 0);
		return;
	case ONEVIP_TCP_ORPHAN:
		effect_on_client(skb, ONEVIP_ORPHAN_IN, verdict->address, peer_at, 0);
		if (daemon_resets())
			refusal_report(skb, verdict, ONEVIP_LIMIT_RESET);
		return;
	case ONEVIP_ND_ANSWER:
		if (nd_is_for_duplicates(skb, verdict->network))
			return;
		effect_count(verdict->address, ONEVIP_ON_LINK, ONEVIP_QUESTION_IN);
		return;
	case ONEVIP_ARP_ANSWER:
		effect_count(verdict->address, ONEVIP_ON_LINK, ONEVIP_QUESTION_IN);
		return;
	default:
		return;
	}
}

/* A TCP segment that leaves, with its flags; ONEVIP_EFFECTS for one of a session. */
static __always_inline __u32 effect_of_flags(struct tcphdr *tcp)
{
	__u8 flags = ((__u8 *)tcp)[TCP_FLAGS] & (TCP_SYN | TCP_RST | TCP_ACK);

	if (flags & TCP_RST)
		return ONEVIP_RESET_OUT;
	return flags == (TCP_SYN | TCP_ACK) ? ONEVIP_SYN_ACK_OUT : ONEVIP_EFFECTS;
}

/* What leaves by IPv4. The stack's own answers have no options. */
static __always_inline void effect_out_ipv4(struct __sk_buff *skb, const struct onevip_settings *settings,
					    __u32 network)
{
	void *end = (void *)(long)skb->data_end;
	struct iphdr *ip = (void *)(long)skb->data + network;
	struct tcphdr *tcp = (void *)(ip + 1);
	__u32 effect;
	int address;

	if ((void *)(tcp + 1) > end || ip->protocol != IPPROTO_TCP || ip->ihl != 5)
		return;
	effect = effect_of_flags(tcp);
	if (effect == ONEVIP_EFFECTS)
		return;
	address = address_find_ipv4(settings, ip->saddr);
	if (address >= 0)
		effect_on_client(skb, effect, address, network + IPV4_DEST,
				 effect == ONEVIP_SYN_ACK_OUT ? tcp->source : 0);
}

static __always_inline void effect_out_ipv6(struct __sk_buff *skb, const struct onevip_settings *settings,
					    __u32 network)
{
	void *end = (void *)(long)skb->data_end;
	struct ipv6hdr *ip = (void *)(long)skb->data + network;
	struct tcphdr *tcp = (void *)(ip + 1);
	__u32 effect;
	int address;

	if ((void *)(tcp + 1) > end || ip->nexthdr != IPPROTO_TCP)
		return;
	effect = effect_of_flags(tcp);
	if (effect == ONEVIP_EFFECTS)
		return;
	address = address_look_up_ipv6(settings, ip->saddr.s6_addr32);
	if (address >= 0)
		effect_on_client(skb, effect, address, network + IPV6_DEST,
				 effect == ONEVIP_SYN_ACK_OUT ? tcp->source : 0);
}

#endif
