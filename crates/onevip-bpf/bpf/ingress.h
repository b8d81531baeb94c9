/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tc ingress: the authority. Every verdict is made here, whatever XDP has already dropped.
 */
#ifndef ONEVIP_INGRESS_H
#define ONEVIP_INGRESS_H

#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include "ban.h"
#include "effect.h"
#include "limit.h"
#include "trace.h"

/* Whether some of the first `length` bytes of the packet lie in pages, where programs cannot read them: the NIC or
 * GRO may have left them there. (Pointers are compared, not subtracted: the verifier loses track of differences.) */
static __always_inline bool headers_scattered(struct __sk_buff *skb, __u32 length)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 all;

	if (data + length <= end)
		return false;
	all = skb->len;
	return all > length || data + all > end;
}

/* Brings the first `length` bytes of the packet, or all of it, into one piece. */
static __always_inline void headers_gather(struct __sk_buff *skb, __u32 length)
{
	if (headers_scattered(skb, length))
		bpf_skb_pull_data(skb, skb->len < length ? skb->len : length);
}

/* Hands a beat to the daemon; false when the ring buffer is full. */
static __always_inline bool beat_hand_over(struct __sk_buff *skb, const struct verdict *verdict, __u32 vip)
{
	__u32 length = skb->len - verdict->network;
	__u32 captured = length < ONEVIP_DATAGRAM_MAX ? length : ONEVIP_DATAGRAM_MAX;
	struct onevip_beat *beat = bpf_ringbuf_reserve(&onevip_beats, sizeof(*beat), 0);

	if (!beat)
		return false;
	beat->received_ns = bpf_ktime_get_boot_ns();
	beat->vip = vip;
	beat->address = verdict->address;
	beat->length = length;
	/* The verifier wants to see both bounds, one after the other, on the very register that the helper takes; and older
	 * ones learn nothing from "not zero". */
	asm volatile("" : "+r"(captured));
	if (captured < sizeof(struct iphdr))
		goto unread;
	asm volatile("" : "+r"(captured));
	if (captured > ONEVIP_DATAGRAM_MAX || bpf_skb_load_bytes(skb, verdict->network, beat->datagram, captured))
		goto unread;
	beat->captured = captured;
	bpf_ringbuf_submit(beat, 0);
	return true;
unread:
	bpf_ringbuf_discard(beat, 0);
	return false;
}

/* A frame to the cluster MAC is "for somebody else" to the stack, and TCP would not take it. */
static __always_inline void packet_accept(struct __sk_buff *skb, const struct onevip_vip *vip)
{
	struct ethhdr *ethernet = (void *)(long)skb->data;

	if ((void *)(ethernet + 1) <= (void *)(long)skb->data_end && mac_equal(ethernet->h_dest, vip->cluster_mac))
		bpf_skb_change_type(skb, PACKET_HOST);
}

/* The full path for a frame whose headers may have to be gathered first. Moving bytes costs, so packets that are not
 * ours are spared as much of it as can be. */
static __always_inline void skb_full_path(struct __sk_buff *skb, struct packet_context *pkt, struct verdict *verdict)
{
	if (headers_scattered(skb, HEADERS_MAX)) {
		headers_gather(skb, HEADERS_MIN);
		if (!frame_concerns_vip(pkt->settings, (void *)(long)skb->data, (void *)(long)skb->data_end))
			return;
		headers_gather(skb, HEADERS_MAX);
	}
	pkt->end = (void *)(long)skb->data_end;
	full_path(pkt, (void *)(long)skb->data, verdict);
}

/* Turns away a packet that would pass when its sender is banned or exceeds a limit. Returns the number of that limit, or
 * 0. */
static __always_inline __u32 sender_check(struct packet_context *pkt, void *data, struct verdict *verdict)
{
	__u32 number = 0;

	if (reason_passes(verdict->reason) && sender_is_banned(data, pkt->end, verdict))
		verdict->reason = ONEVIP_BANNED;
	if (verdict->reason == ONEVIP_SYN_OWN)
		number = sender_is_over(pkt, data, verdict);
	if (number)
		verdict->reason = ONEVIP_SYN_LIMITED;
	return number;
}

SEC("classifier")
int onevip_ingress(struct __sk_buff *skb)
{
	struct packet_context pkt = {
		.ctx = skb, .end = (void *)(long)skb->data_end, .settings = settings_now(), .authority = true,
	};
	struct verdict verdict = { .reason = ONEVIP_NOT_OURS, .network = ETH_HLEN };
	__u32 number;

	/* The VLAN device has a program of its own. (The tag may be a leftover when vlan_present is not set.) */
	if (!pkt.settings || (skb->vlan_tci & VLAN_ID_MASK && skb->vlan_present))
		return TC_ACT_UNSPEC;
	if (!fast_path(&pkt, (void *)(long)skb->data, &verdict)) {
		skb_full_path(skb, &pkt, &verdict);
	} else if (verdict.reason == ONEVIP_TCP_FOREIGN) {
		/* By far the most frequent: to know the reason here saves computing what it means. */
		count(ONEVIP_INGRESS, ONEVIP_TCP_FOREIGN);
		if (READ_ONCE(pkt.settings->traced))
			trace_skb(skb, ONEVIP_TCP_FOREIGN);
		return TC_ACT_SHOT;
	}
	if (verdict.reason == ONEVIP_NOT_OURS)
		return TC_ACT_UNSPEC;
	if (verdict.reason == ONEVIP_BEAT && !beat_hand_over(skb, &verdict, address_vip(pkt.settings, verdict.address)))
		verdict.reason = ONEVIP_BEAT_LOST;
	number = sender_check(&pkt, (void *)(long)skb->data, &verdict);
	if (number)
		refusal_report(skb, &verdict, limit_at(pkt.settings, number)->action);
	count(ONEVIP_INGRESS, verdict.reason);
	if (READ_ONCE(pkt.settings->traced))
		trace_skb(skb, verdict.reason);
	if (!reason_passes(verdict.reason))
		return TC_ACT_SHOT;
	effect_in(skb, &pkt, &verdict);
	packet_accept(skb, &pkt.settings->vips[address_vip(pkt.settings, verdict.address)]);
	return TC_ACT_UNSPEC;
}

#endif
