/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A dry run of the authority: what would become of a packet? The verdict comes from the maps in force, and nothing is
 * counted, remembered or handed over. Never attached; `onevip explain` loads it and runs it once
 * (BPF_PROG_TEST_RUN), and what it returns is the reason.
 */
#ifndef ONEVIP_EXPLAIN_H
#define ONEVIP_EXPLAIN_H

#include "ingress.h"

SEC("classifier")
int onevip_explain(struct __sk_buff *skb)
{
	struct packet_context pkt = {
		.ctx = skb, .end = (void *)(long)skb->data_end, .settings = settings_now(), .dry_run = true,
	};
	struct verdict verdict = { .reason = ONEVIP_NOT_OURS, .network = ETH_HLEN };

	if (!pkt.settings)
		return ONEVIP_NOT_OURS;
	if (!fast_path(&pkt, (void *)(long)skb->data, &verdict))
		skb_full_path(skb, &pkt, &verdict);
	sender_check(&pkt, (void *)(long)skb->data, &verdict);
	return verdict.reason;
}

#endif
