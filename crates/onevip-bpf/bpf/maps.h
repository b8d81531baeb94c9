/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps, and the questions the programs ask them. Every word has one writer, named here.
 */
#ifndef ONEVIP_MAPS_H
#define ONEVIP_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "onevip.h"

/*
 * An index below a power of two. The compiler, which may know that it is that small anyway, must not leave the bound
 * out: verifiers of older kernels (6.1 for one) lose what they knew of a number when it is put together from parts.
 */
#define INDEX(index, size)                                   \
	({                                                     \
		__u32 _index = (index);                        \
		asm volatile("" : "+r"(_index));               \
		_index & ((size)-1);                           \
	})

#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, value) (*(volatile typeof(x) *)&(x) = (value))

/* Writer: the daemon, through its mapping. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct onevip_config);
} onevip_config SEC(".maps");

/* Writer: the daemon, through its mapping. All words are one element, so that the map is looked up while the hash is
 * still being made. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32[ONEVIP_WORDS]);
} onevip_flags SEC(".maps");

/* Writer: the ingress program. Boot time of the last SYN that passed, in ns; 0 when that is long ago. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64[ONEVIP_WORDS]);
} onevip_last_syn SEC(".maps");

/* Writer: the daemon, through its mapping. By VIP, the boot time in ns until which MINE counts. One word, so it cannot
 * tear; one each, since a VIP whose lease runs out must not silence another. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64[ONEVIP_VIPS_MAX]);
} onevip_lease SEC(".maps");

/*
 * Writers: ingress and XDP. Flows of which a segment came that no socket here wanted, in a claimed bucket: the flow's
 * hash in the upper half, the tick of the first such segment in the lower.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64[ONEVIP_ORPHANS]);
} onevip_orphans SEC(".maps");

/*
 * Writer: the daemon, through its mapping. By VIP, the boot time in ns at which a kernel last came back into reach, or
 * since which one that is out of reach was silent: what was seen of orphans before says nothing.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64[ONEVIP_VIPS_MAX]);
} onevip_settled SEC(".maps");

/* Writers: the programs, each CPU its own copy. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ONEVIP_PROGRAMS * ONEVIP_REASONS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} onevip_counters SEC(".maps");

/* Writer: the ingress program. Reader: the daemon. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, ONEVIP_BEATS_BYTES);
} onevip_beats SEC(".maps");

/* Writer: `onevip trace`, but for what is the programs' own. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct onevip_tracing);
} onevip_tracing SEC(".maps");

/* Writers: ingress and XDP. Reader: `onevip trace`. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, ONEVIP_TRACES_BYTES);
} onevip_traces SEC(".maps");

/* The settings in force. Asked once per packet. */
static __always_inline const struct onevip_settings *settings_now(void)
{
	__u32 zero = 0;
	struct onevip_config *config = bpf_map_lookup_elem(&onevip_config, &zero);

	if (!config)
		return NULL;
	return &config->halves[READ_ONCE(config->active) & 1];
}

/* The index of a VIP address in the settings, or -1. */
static __always_inline int address_find_ipv4(const struct onevip_settings *settings, __be32 address)
{
	for (__u32 i = 0; i < ONEVIP_ADDRESSES_MAX; i++) {
		if (i >= settings->address_count)
			break;
		if (settings->addresses[i].words[0] == address && settings->addresses[i].family == ONEVIP_FAMILY_IPV4)
			return i;
	}
	return -1;
}

/* Half an IPv6 address. */
static __always_inline __u64 ipv6_half(const __be32 *words)
{
	return words[0] | (__u64)words[1] << 32;
}

static __always_inline bool ipv6_equal(const __be32 *one, const __be32 *other)
{
	return one[3] == other[3] && one[2] == other[2] && one[1] == other[1] && one[0] == other[0];
}

/* The index of a VIP address in the settings, or -1. The address comes as its two halves, which in an untagged frame
 * can be read as they are. */
static __always_inline int address_find_ipv6(const struct onevip_settings *settings, __u64 start, __u64 end)
{
	for (__u32 i = 0; i < ONEVIP_ADDRESSES_MAX; i++) {
		const __u64 *words = (const __u64 *)settings->addresses[i].words;

		if (i >= settings->address_count)
			break;
		if (words[1] == end && words[0] == start &&
		    settings->addresses[i].family == ONEVIP_FAMILY_IPV6)
			return i;
	}
	return -1;
}

/* The same, out of the way. Not static, so that the verifier looks at it once, and does not follow each of its answers
 * through all that comes after. */
__noinline int address_find_halves(const struct onevip_settings *settings, __u64 start, __u64 end)
{
	return settings ? address_find_ipv6(settings, start, end) : -1;
}

static __always_inline int address_look_up_ipv6(const struct onevip_settings *settings, const __be32 *address)
{
	return address_find_halves(settings, ipv6_half(address), ipv6_half(address + 2));
}

/* The VIP to which an address belongs. */
static __always_inline __u32 address_vip(const struct onevip_settings *settings, __u32 address)
{
	return settings->addresses[INDEX(address, ONEVIP_ADDRESSES_MAX)].vip & (ONEVIP_VIPS_MAX - 1);
}

static __always_inline __u32 flags_load(__u32 word)
{
	__u32 zero = 0;
	__u32 *flags = bpf_map_lookup_elem(&onevip_flags, &zero);

	return flags ? READ_ONCE(flags[INDEX(word, ONEVIP_WORDS)]) : 0;
}

static __always_inline __u64 *last_syn(__u32 word)
{
	__u32 zero = 0;
	__u64 *all = bpf_map_lookup_elem(&onevip_last_syn, &zero);

	return all ? &all[INDEX(word, ONEVIP_WORDS)] : NULL;
}

/* Whether the lease of a VIP lives. The clock costs 50 ns, so ask only where MINE decides. Tells the time as well. */
static __always_inline bool lease_lives(__u32 vip, __u64 *now)
{
	__u32 zero = 0;
	__u64 *deadlines = bpf_map_lookup_elem(&onevip_lease, &zero);

	*now = bpf_ktime_get_boot_ns();
	return deadlines && *now < READ_ONCE(deadlines[INDEX(vip, ONEVIP_VIPS_MAX)]);
}

static __always_inline void last_syn_store(__u32 word, __u64 now)
{
	__u64 *last = last_syn(word);

	if (last)
		WRITE_ONCE(*last, now);
}

/*
 * Whether a SYN of this bucket passed lately. A memory that has run out is wiped, so that the bucket's foreign
 * packets need not look at the clock for ever after; unless a SYN passed in this very moment.
 */
static __always_inline bool last_syn_is_recent(__u32 word, bool authority)
{
	__u64 *last = last_syn(word);
	__u64 then;

	if (!last)
		return false;
	then = READ_ONCE(*last);
	if (!then)
		return false;
	if (bpf_ktime_get_boot_ns() - then < ONEVIP_SYN_MEMORY_NS)
		return true;
	if (authority)
		__sync_val_compare_and_swap(last, then, 0);
	return false;
}

static __always_inline __u64 settled_since(__u32 vip)
{
	__u32 zero = 0;
	__u64 *since = bpf_map_lookup_elem(&onevip_settled, &zero);

	return since ? READ_ONCE(since[INDEX(vip, ONEVIP_VIPS_MAX)]) : ~0ull;
}

/*
 * Whether a segment of this flow already came in vain `wait` ticks ago or earlier, and since everybody's reachability
 * settled. If none did, this one is remembered, but not in a dry run. Two flows of one place take turns; that only
 * makes them wait longer.
 */
static __always_inline bool orphan_waited(__u32 flow, __u32 vip, __u32 wait, __u64 now, bool dry_run)
{
	__u64 settled = settled_since(vip);
	__u32 zero = 0, tick = now >> ONEVIP_TICK_SHIFT, age;
	__u64 *all = bpf_map_lookup_elem(&onevip_orphans, &zero);
	__u64 *place, first;

	if (!all)
		return false;
	place = &all[INDEX(flow >> (32 - ONEVIP_ORPHANS_BITS), ONEVIP_ORPHANS)];
	first = READ_ONCE(*place);
	age = tick - (__u32)first;
	if (first >> 32 == flow && age < ONEVIP_ORPHAN_MEMORY_TICKS && settled <= now &&
	    age <= (now - settled) >> ONEVIP_TICK_SHIFT)
		return age >= wait;
	if (!dry_run)
		WRITE_ONCE(*place, (__u64)flow << 32 | tick);
	return false;
}

static __always_inline void count(enum onevip_program program, __u32 number)
{
	__u32 index = program * ONEVIP_REASONS_MAX + (number & (ONEVIP_REASONS_MAX - 1));
	__u64 *counter = bpf_map_lookup_elem(&onevip_counters, &index);

	if (counter)
		*counter += 1;
}

#endif
