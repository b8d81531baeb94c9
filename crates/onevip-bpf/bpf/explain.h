/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What would become of a packet? The authority's own judgement over the maps in force, but as an onlooker's: nothing is
 * counted, remembered or handed over. Never attached; `onevip explain` loads it and runs it once
 * (BPF_PROG_TEST_RUN), and what it returns is the reason.
 */
#ifndef ONEVIP_EXPLAIN_H
#define ONEVIP_EXPLAIN_H

#include "ingress.h"

SEC("classifier")
int onevip_explain(struct __sk_buff *skb)
{
	struct inquiry on = {
		.ctx = skb, .end = (void *)(long)skb->data_end, .settings = settings_now(), .onlooker = true,
	};
	struct judged judged = { .reason = ONEVIP_NOT_OURS, .network = ETH_HLEN };

	if (!on.settings)
		return ONEVIP_NOT_OURS;
	if (!judge_quickly(&on, (void *)(long)skb->data, &judged))
		skb_judge_thoroughly(skb, &on, &judged);
	judge_sender(&on, (void *)(long)skb->data, &judged);
	return judged.reason;
}

#endif
