/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The verdict on a packet: the same decision, in the same order, as packet.rs and verdict.rs of onevip-core.
 *
 * It reads and decides; all it writes is the memory of passed SYNs (as the authority) and that of orphans. What to do
 * about the verdict is the business of ingress.h and xdp.h.
 */
#ifndef ONEVIP_VERDICT_H
#define ONEVIP_VERDICT_H

#include "verdict4.h"
#include "verdict6.h"

/* Offset of the EtherType. */
#define ETHERTYPE 12

/* Everything a verdict can rest on lies within: two tags, and an ICMPv6 error that quotes an IPv6 header, both with as
 * many extension headers as are read. */
#define HEADERS_MAX 384
/* Enough to see that a frame is not ours: two tags, and an IP header or an ARP message. */
#define HEADERS_MIN 62

/* Whether the packet carries TCP or UDP right behind its header, so that it is no neighbour discovery. */
static __always_inline bool ipv6_is_carrier(const struct ipv6hdr *ip)
{
	return ip->nexthdr == IPPROTO_TCP || ip->nexthdr == IPPROTO_UDP;
}

/* Whether the frame concerns a VIP, as far as a glance at the start of its network header tells. */
static __always_inline bool frame_concerns_vip(const struct onevip_settings *settings, void *data, void *end)
{
	struct ipv6hdr *ipv6;
	struct link link;
	struct iphdr *ip;

	if (!link_read(data, end, &link))
		return false;
	if (link.type == bpf_htons(ETH_P_ARP))
		return true;
	if (link.type == bpf_htons(ETH_P_IPV6)) {
		/* Anything but plain TCP and UDP to others may be neighbour discovery. */
		ipv6 = data + link.network;
		return (void *)(ipv6 + 1) <= end && (!ipv6_is_carrier(ipv6) ||
						     address_look_up_ipv6(settings, ipv6->daddr.s6_addr32) >= 0);
	}
	if (link.type != bpf_htons(ETH_P_IP))
		return false;
	ip = data + link.network;
	return (void *)(ip + 1) <= end && address_find_ipv4(settings, ip->daddr) >= 0;
}

/* The fast path for IPv6. It takes SYNs along: the full path costs them more here than it does in IPv4. */
static __always_inline bool fast_path_ipv6(struct packet_context *pkt, void *data, struct verdict *verdict)
{
	struct ipv6hdr *ip = data + ETH_HLEN;
	struct tcphdr *tcp = data + ETH_HLEN + sizeof(*ip);
	struct ip_header header = { .is_v6 = true, .v6 = ip };
	const __u64 *dest = (const __u64 *)&ip->daddr;
	int address;

	if ((void *)(tcp + 1) > pkt->end)
		return false;
	address = address_find_ipv6(pkt->settings, dest[0], dest[1]);
	if (address < 0)
		return ipv6_is_carrier(ip);
	if (ip->version != 6 || ip->nexthdr != IPPROTO_TCP || tcp->doff < 5)
		return false;
	pkt->vip = address_vip(pkt->settings, address);
	verdict->address = address;
	verdict->reason = classify_tcp(pkt, header, tcp);
	return true;
}

/*
 * The fast path: for an untagged frame with a plain IP header, which nearly all are, whether it is ours, and if it is
 * a TCP segment that opens nothing, its verdict. A busy cluster sees little else, so every instruction counts here.
 * False when the full path has to be taken; the two never differ, which the differential test checks.
 */
static __always_inline bool fast_path(struct packet_context *pkt, void *data, struct verdict *verdict)
{
	struct iphdr *ip = data + ETH_HLEN;
	struct tcphdr *tcp = data + ETH_HLEN + sizeof(*ip);
	struct ip_header header = { .is_v6 = false, .v4 = ip };
	int address;

	if ((void *)(tcp + 1) > pkt->end)
		return false;
	if (*(__be16 *)(data + ETHERTYPE) != bpf_htons(ETH_P_IP))
		return *(__be16 *)(data + ETHERTYPE) == bpf_htons(ETH_P_IPV6) && fast_path_ipv6(pkt, data, verdict);
	address = address_find_ipv4(pkt->settings, ip->daddr);
	if (address < 0)
		return true;
	/* Version and header length; then, in one word, fragmentation and protocol. */
	if (*(__u8 *)ip != 0x45 || (*(__be32 *)&ip->frag_off & bpf_htonl(0x3fff00ff)) != bpf_htonl(IPPROTO_TCP))
		return false;
	if (tcp->doff < 5 || tcp_opens(tcp))
		return false;
	pkt->vip = address_vip(pkt->settings, address);
	verdict->address = address;
	verdict->reason = classify_segment(pkt, header, tcp, word_of(pkt, header, IPPROTO_TCP, tcp->source,
								   tcp->dest));
	return true;
}

/* The full path: the verdict on any frame of which the first HEADERS_MAX bytes, or all, lie between data and
 * pkt->end. */
static __always_inline void full_path(struct packet_context *pkt, void *data, struct verdict *verdict)
{
	struct arp_message *arp;
	struct ipv6hdr *ipv6;
	struct iphdr *ip;
	struct link link;
	int address;

	if (!link_read(data, pkt->end, &link))
		return;
	verdict->network = link.network;
	if (link.type == bpf_htons(ETH_P_ARP)) {
		arp = arp_read(data + link.network, pkt->end);
		if (arp)
			verdict->reason = classify_arp(pkt, arp, &verdict->address);
		return;
	}
	if (link.type == bpf_htons(ETH_P_IPV6)) {
		ipv6 = data + link.network;
		if ((void *)(ipv6 + 1) <= pkt->end)
			verdict->reason = classify_ipv6(pkt, ipv6, &verdict->address);
		return;
	}
	if (link.type != bpf_htons(ETH_P_IP))
		return;
	ip = data + link.network;
	if ((void *)(ip + 1) > pkt->end)
		return;
	address = address_find_ipv4(pkt->settings, ip->daddr);
	if (address < 0)
		return;
	verdict->address = address;
	pkt->vip = address_vip(pkt->settings, address);
	verdict->reason = classify_ipv4(pkt, ip);
}

/* Whether a packet of this reason goes on to this host's stack. */
static __always_inline bool reason_passes(enum onevip_reason reason)
{
	switch (reason) {
	case ONEVIP_NOT_OURS:
	case ONEVIP_ARP_ANSWER:
	case ONEVIP_ARP_TO_VIP:
	case ONEVIP_SYN_OWN:
	case ONEVIP_TCP_HELD:
	case ONEVIP_TCP_HALF_OPEN:
	case ONEVIP_TCP_TIME_WAIT:
	case ONEVIP_TCP_COOKIE:
	case ONEVIP_TCP_ORPHAN:
	case ONEVIP_ICMP_ERROR_OWN:
	case ONEVIP_ICMP_OWN:
	case ONEVIP_UDP_OWN:
	case ONEVIP_UDP_HELD:
	case ONEVIP_FRAGMENT_OWN:
	case ONEVIP_OTHER_OWN:
	case ONEVIP_ND_ANSWER:
	case ONEVIP_ND_TO_VIP:
		return true;
	default:
		return false;
	}
}

#endif
