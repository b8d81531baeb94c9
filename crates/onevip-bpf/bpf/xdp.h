/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * XDP: an early dropper in front of the authority. It drops what the authority would drop, and passes everything
 * else, beats included, untouched. Only its drops are counted: what it passes, the authority counts.
 *
 * A NIC that takes VLAN tags out of frames before XDP sees them hides them from this program: do not use XDP on the
 * parent of VLAN devices that carry the VIP's network.
 */
#ifndef ONEVIP_XDP_H
#define ONEVIP_XDP_H

#include "ban.h"
#include "trace.h"

SEC("xdp")
int onevip_xdp(struct xdp_md *xdp)
{
	void *data = (void *)(long)xdp->data;
	struct packet_context pkt = {
		.ctx = xdp, .end = (void *)(long)xdp->data_end, .settings = settings_now(), .authority = false,
	};
	struct verdict verdict = { .reason = ONEVIP_NOT_OURS, .network = ETH_HLEN };

	if (!pkt.settings)
		return XDP_PASS;
	if (!fast_path(&pkt, data, &verdict)) {
		full_path(&pkt, data, &verdict);
	} else if (verdict.reason == ONEVIP_TCP_FOREIGN) {
		/* By far the most frequent: to know the reason here saves computing what it means. */
		count(ONEVIP_XDP, ONEVIP_TCP_FOREIGN);
		if (READ_ONCE(pkt.settings->traced))
			trace_xdp(xdp, ONEVIP_TCP_FOREIGN);
		return XDP_DROP;
	}
	if (reason_passes(verdict.reason) && sender_is_banned(data, pkt.end, &verdict))
		verdict.reason = ONEVIP_BANNED;
	if (verdict.reason == ONEVIP_BEAT || reason_passes(verdict.reason))
		return XDP_PASS;
	count(ONEVIP_XDP, verdict.reason);
	if (READ_ONCE(pkt.settings->traced))
		trace_xdp(xdp, verdict.reason);
	return XDP_DROP;
}

#endif
