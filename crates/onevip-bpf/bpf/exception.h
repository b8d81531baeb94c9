/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sources for which something else counts than for all others: another hash mode, or a few buckets only, which are
 * reserved for the node that they are pinned to. The twin of Exception in crates/onevip-core/src/selector.rs.
 *
 * Only VIPs that have exceptions look for them, and those are not plain.
 */
#ifndef ONEVIP_EXCEPTION_H
#define ONEVIP_EXCEPTION_H

#include "maps.h"

/*
 * Writer: the daemon, by system calls. Those of the settings that are not in force are written before these come into
 * force, and removed when nobody reads them any more: the half is part of the key.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * ONEVIP_EXCEPTIONS_MAX);
	__type(key, struct onevip_exception_key);
	__type(value, struct onevip_exception);
} onevip_excepted SEC(".maps");

/* What counts for this source instead, or NULL. */
static __always_inline const struct onevip_exception *exception_find(const struct onevip_settings *settings,
								     __u32 vip_index, __u8 family, const __be32 *words)
{
	struct onevip_exception_key source = {
		.prefix_length = ONEVIP_SOURCE_HEAD_BITS + 128,
		.half = settings->half,
		.vip = vip_index,
		.family = family,
		.words = { words[0], words[1], words[2], words[3] },
	};

	return bpf_map_lookup_elem(&onevip_excepted, &source);
}

#endif
