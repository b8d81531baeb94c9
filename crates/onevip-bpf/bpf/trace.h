/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Telling a tracer (`onevip trace`) of decisions. While there is none, a packet pays for this with one look at a
 * word that lies beside others which it needs anyway: `traced`.
 */
#ifndef ONEVIP_TRACE_H
#define ONEVIP_TRACE_H

#include "verdict.h"

/* The headers that a trace is chosen by: two tags, and an ICMPv6 error that quotes an IPv6 header. */
#define TRACE_CHOSEN_BY 110

static __always_inline bool trace_prefix_has(const struct onevip_tracing *tracing, const __u8 *address, __u32 family)
{
	__be32 words[4] = {};

	if (READ_ONCE(tracing->family) != family)
		return false;
	__builtin_memcpy(words, address, family == ONEVIP_FAMILY_IPV6 ? 16 : 4);
	for (int i = 0; i < 4; i++)
		if ((words[i] & READ_ONCE(tracing->mask[i])) != READ_ONCE(tracing->words[i]))
			return false;
	return true;
}

/* Whether the tracer asked for a packet that begins like this: by its source, or for an ICMP error by the client
 * whose flow it is about. */
static __always_inline bool trace_wanted(const struct onevip_tracing *tracing, const __u8 *start)
{
	const __u8 *type = start + ETHERTYPE, *ip;

	if (READ_ONCE(tracing->family) == ONEVIP_FAMILY_NONE)
		return true;
	for (int tags = 0; tags < 2; tags++)
		if ((type[0] == 0x81 && type[1] == 0) || (type[0] == 0x88 && type[1] == 0xa8))
			type += 4;
	ip = type + 2;
	if (type[0] == 8 && type[1] == 6) /* ARP */
		return trace_prefix_has(tracing, ip + 14, ONEVIP_FAMILY_IPV4);
	if (type[0] == 8 && type[1] == 0)
		return trace_prefix_has(tracing, ip + 12, ONEVIP_FAMILY_IPV4) ||
		       (ip[0] == 0x45 && ip[9] == IPPROTO_ICMP && icmp_is_error(ip[20]) &&
			trace_prefix_has(tracing, ip + 20 + 8 + 16, ONEVIP_FAMILY_IPV4));
	if (type[0] == 0x86 && type[1] == 0xdd)
		return trace_prefix_has(tracing, ip + 8, ONEVIP_FAMILY_IPV6) ||
		       (ip[6] == IPPROTO_ICMPV6 && ip[40] < ICMPV6_FIRST_INFORMATIONAL &&
			trace_prefix_has(tracing, ip + 40 + 8 + 24, ONEVIP_FAMILY_IPV6));
	return false;
}

/* Whether this window has room for one more record. CPUs may disagree for a moment about which window it is; the ring
 * is bounded as well. */
static __always_inline bool trace_has_room(struct onevip_tracing *tracing, __u64 now)
{
	__u32 window = now >> ONEVIP_TRACE_WINDOW_SHIFT;

	if (READ_ONCE(tracing->window) != window) {
		WRITE_ONCE(tracing->window, window);
		WRITE_ONCE(tracing->in_window, 0);
	}
	return __sync_fetch_and_add(&tracing->in_window, 1) < READ_ONCE(tracing->rate_max);
}

/* What the tracer wants; NULL when it has gone, and then nobody asks again. */
static __always_inline struct onevip_tracing *tracing_now(__u64 now)
{
	struct onevip_config *config;
	struct onevip_tracing *tracing;
	__u32 zero = 0;

	tracing = bpf_map_lookup_elem(&onevip_tracing, &zero);
	if (tracing && now < READ_ONCE(tracing->until_ns))
		return tracing;
	config = bpf_map_lookup_elem(&onevip_config, &zero);
	if (config) {
		WRITE_ONCE(config->halves[0].traced, 0);
		WRITE_ONCE(config->halves[1].traced, 0);
	}
	return NULL;
}

/* A record, to be filled in with the frame; NULL when there is no room. */
static __always_inline struct onevip_trace *trace_begin(struct onevip_tracing *tracing, __u64 now)
{
	struct onevip_trace *trace = NULL;

	if (trace_has_room(tracing, now))
		trace = bpf_ringbuf_reserve(&onevip_traces, sizeof(*trace), 0);
	if (!trace) {
		__sync_fetch_and_add(&tracing->lost, 1);
		return NULL;
	}
	trace->time_ns = now;
	trace->reserved = 0;
	return trace;
}

/* Not static: the verifier looks at it once, and the fast path stays as short as it is. */
__noinline int trace_skb(struct __sk_buff *skb, __u32 reason)
{
	__u8 start[TRACE_CHOSEN_BY] = {};
	__u64 now = bpf_ktime_get_boot_ns();
	struct onevip_tracing *tracing;
	struct onevip_trace *trace;
	__u32 length, captured;

	if (!skb)
		return 0;
	tracing = tracing_now(now);
	if (!tracing)
		return 0;
	/* Both bounds one after the other, for the verifier: see beat_hand_over(). */
	length = skb->len;
	captured = length < sizeof(start) ? length : sizeof(start);
	asm volatile("" : "+r"(captured));
	if (captured < ETH_HLEN)
		return 0;
	asm volatile("" : "+r"(captured));
	if (captured > sizeof(start) || bpf_skb_load_bytes(skb, 0, start, captured))
		return 0;
	if (!trace_wanted(tracing, start))
		return 0;
	trace = trace_begin(tracing, now);
	if (!trace)
		return 0;
	captured = length < ONEVIP_TRACE_FRAME_MAX ? length : ONEVIP_TRACE_FRAME_MAX;
	asm volatile("" : "+r"(captured));
	if (captured < ETH_HLEN)
		goto unread;
	asm volatile("" : "+r"(captured));
	if (captured > ONEVIP_TRACE_FRAME_MAX || bpf_skb_load_bytes(skb, 0, trace->frame, captured))
		goto unread;
	trace->ifindex = skb->ifindex;
	trace->length = length;
	trace->captured = captured;
	trace->program = ONEVIP_INGRESS;
	trace->reason = reason;
	bpf_ringbuf_submit(trace, 0);
	return 0;
unread:
	bpf_ringbuf_discard(trace, 0);
	return 0;
}

__noinline int trace_xdp(struct xdp_md *xdp, __u32 reason)
{
	__u8 start[TRACE_CHOSEN_BY] = {};
	__u64 now = bpf_ktime_get_boot_ns();
	struct onevip_tracing *tracing;
	struct onevip_trace *trace;
	__u64 length, captured;
	void *data;

	if (!xdp)
		return 0;
	tracing = tracing_now(now);
	if (!tracing)
		return 0;
	data = (void *)(long)xdp->data;
	length = (void *)(long)xdp->data_end - data;
	captured = length < sizeof(start) ? length : sizeof(start);
	asm volatile("" : "+r"(captured));
	if (captured > sizeof(start) || bpf_probe_read_kernel(start, captured, data))
		return 0;
	if (!trace_wanted(tracing, start))
		return 0;
	trace = trace_begin(tracing, now);
	if (!trace)
		return 0;
	captured = length < ONEVIP_TRACE_FRAME_MAX ? length : ONEVIP_TRACE_FRAME_MAX;
	asm volatile("" : "+r"(captured));
	if (captured > ONEVIP_TRACE_FRAME_MAX || bpf_probe_read_kernel(trace->frame, captured, data)) {
		bpf_ringbuf_discard(trace, 0);
		return 0;
	}
	trace->ifindex = xdp->ingress_ifindex;
	trace->length = length;
	trace->captured = captured;
	trace->program = ONEVIP_XDP;
	trace->reason = reason;
	bpf_ringbuf_submit(trace, 0);
	return 0;
}

#endif
