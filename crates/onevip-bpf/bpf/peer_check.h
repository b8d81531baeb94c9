/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Peer check: what other nodes' clients show of how they are served. Every node hears every packet of every client.
 *
 * In sampled buckets each connection is noted from its SYN on. A client that acknowledges more than the SYN-ACK has had
 * something from its server; one that goes on acknowledging only that has had nothing, and one that repeats its SYN not
 * even that. Nothing here decides anything: the daemon reads, and asks the node itself before it believes.
 *
 * Entries are written without locks. Two CPUs that write one at the same time may mix two flows up; that is one wrong
 * clue of many.
 */
#ifndef ONEVIP_PEER_CHECK_H
#define ONEVIP_PEER_CHECK_H

#include "maps.h"

/* Writers: ingress and XDP. Flows by the top bits of their hash. (The name of a map is state on a host: it stays.) */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct onevip_flow[ONEVIP_FLOWS]);
} onevip_witness SEC(".maps");

/* One segment of a client, as far as it matters here. */
struct peer_segment {
	__u32 hash; /* of the flow */
	__u32 source; /* tells clients apart */
	__u16 word; /* of the bucket in the flags map */
	__u16 port; /* that the client speaks to */
	__u32 seq;
	__u32 ack;
	__u8 opens;
	__u8 acknowledges;
	__u8 ends;
	__u8 unused;
};

static __always_inline __u32 tick_now(void)
{
	return bpf_ktime_get_boot_ns() >> ONEVIP_TICK_SHIFT;
}

/* A SYN: the first one makes an entry, one that comes again is a clue by itself. A handshake that goes on is not pushed
 * out by a newcomer, or a flood of SYNs would leave nothing to see. */
static __always_inline void peer_note_syn(struct onevip_flow *flow, const struct peer_segment *seen)
{
	__u32 tick = tick_now(), age = tick - flow->begun;

	if (flow->hash == seen->hash && flow->isn == seen->seq && age < ONEVIP_FLOW_MEMORY_TICKS) {
		if (age >= ONEVIP_SYN_AGAIN_TICKS)
			flow->state |= ONEVIP_FLOW_REPEATED;
		return;
	}
	if (flow->state & (ONEVIP_FLOW_OPEN | ONEVIP_FLOW_REPEATED) && age < ONEVIP_FLOW_KEPT_TICKS)
		return;
	flow->state = 0;
	flow->hash = seen->hash;
	flow->word = seen->word;
	flow->port = seen->port;
	flow->source = seen->source;
	flow->isn = seen->seq;
	flow->begun = tick;
	flow->ended = 0;
}

/* Any other segment of a flow whose SYN was seen. */
static __always_inline void peer_note_segment(struct onevip_flow *flow, const struct peer_segment *seen)
{
	if (flow->hash != seen->hash || flow->state & (ONEVIP_FLOW_SERVED | ONEVIP_FLOW_ENDED))
		return;
	if (seen->acknowledges && !(flow->state & ONEVIP_FLOW_OPEN)) {
		flow->answer = seen->ack;
		flow->opened = tick_now();
		flow->state |= ONEVIP_FLOW_OPEN;
	} else if (seen->acknowledges && (__s32)(seen->ack - flow->answer) > 0) {
		flow->state |= ONEVIP_FLOW_SERVED;
	}
	if (seen->ends) {
		flow->ended = tick_now();
		flow->state |= ONEVIP_FLOW_ENDED;
	}
}

/* Not static, so that the verifier looks at it once, and the fast path has nothing of it. */
__noinline int peer_note(const struct peer_segment *seen)
{
	__u32 zero = 0;
	struct onevip_flow *flows = bpf_map_lookup_elem(&onevip_witness, &zero), *flow;

	if (!flows || !seen)
		return 0;
	count(ONEVIP_EGRESS, ONEVIP_GUARD_SAMPLED);
	flow = &flows[seen->hash >> (32 - ONEVIP_FLOWS_BITS) & (ONEVIP_FLOWS - 1)];
	if (seen->opens)
		peer_note_syn(flow, seen);
	else
		peer_note_segment(flow, seen);
	return 0;
}

#endif
