/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the kernel part and the daemon share: constants, and the layout of every map.
 *
 * The twin of this file is src/maps/layout.rs; tests/layout.rs compiles this header for the host and compares the two,
 * field by field. Any change of a layout needs a new ONEVIP_LAYOUT: pinned maps of another layout are rebuilt.
 *
 * Numbers that come from a packet stay in network order ("__be"); everything else is in host order.
 */
#ifndef ONEVIP_H
#define ONEVIP_H

#include <linux/bpf.h>
#include <linux/types.h>

#define ONEVIP_MAGIC 0x1fee1e55u
#define ONEVIP_LAYOUT 5

#define ONEVIP_VIPS_MAX 8
#define ONEVIP_ADDRESSES_MAX 8
#define ONEVIP_SERVICES_MAX 32
/* Exceptions of all VIPs together, and buckets that a pinned source may meet. */
#define ONEVIP_EXCEPTIONS_MAX 1024
#define ONEVIP_RESERVED 16
#define ONEVIP_BUCKETS 1024
/* Words in the flags and last_syn maps: [vip][bucket]. */
#define ONEVIP_WORDS (ONEVIP_VIPS_MAX * ONEVIP_BUCKETS)

/* State of a bucket. Written by the daemon only; loaded once per packet. */
#define ONEVIP_MINE 1u
#define ONEVIP_GUESTS 2u
#define ONEVIP_ELSEWHERE 4u
/* Its claimer has just fallen silent: what comes now counts as the first try of an orphan, if it becomes one. */
#define ONEVIP_WATCHED 8u
/* Another node's, and the connections in it are noted: see peer_check.h. It changes no verdict. */
#define ONEVIP_SAMPLED 16u

/* After a SYN passed, its bucket counts as having guests for this long (see SYN_MEMORY_SECS in onevip-core). */
#define ONEVIP_SYN_MEMORY_NS (120ull * 1000 * 1000 * 1000)

/* Orphans are remembered in this many places, by the top bits of their flow's hash. */
#define ONEVIP_ORPHANS_BITS 14
#define ONEVIP_ORPHANS (1u << ONEVIP_ORPHANS_BITS)
/* Their clock ticks every 2^20 ns, about a millisecond; a memory older than this counts for nothing. */
#define ONEVIP_TICK_SHIFT 20
#define ONEVIP_ORPHAN_MEMORY_TICKS (120ull * 1000 * 1000 * 1000 >> ONEVIP_TICK_SHIFT)
/* What hashes their flows. */
#define ONEVIP_ORPHANS_SEED 0x6f727068u

/* How many limits all services together may have: a power of two. */
#define ONEVIP_LIMITS_MAX 8
/* How many sources are counted at once, and in how many places one may be. */
#define ONEVIP_SOURCES (1u << 14)
#define ONEVIP_WAYS 4
/* The largest burst; a power of two. */
#define ONEVIP_BURST_MAX 32
/* Networks that are not counted, of all limits together. */
#define ONEVIP_ALLOWED_MAX 4096
#define ONEVIP_REFUSALS_BYTES (64 * 1024)
/* How much of a refused SYN is handed over: more than any SYN has. */
#define ONEVIP_REFUSED_MAX 160

/* What a refused SYN is answered. */
enum onevip_limit_action {
	ONEVIP_LIMIT_DROP = 0,
	ONEVIP_LIMIT_RESET = 1,
	ONEVIP_LIMIT_UNREACHABLE = 2,
};

/* At most so many attempts within so long. */
struct onevip_limit {
	__u32 window_ms;
	__u8 burst; /* 1 to ONEVIP_BURST_MAX */
	__u8 action; /* enum onevip_limit_action */
	__u8 counts_refused; /* 1: a refused attempt counts as well */
	__u8 v4_prefix; /* bits of an address that make a source */
	__u8 v6_prefix;
	__u8 reserved[3];
};

/* One source's attempts. Its stamps are boot time in ms, in a ring. */
struct onevip_source {
	struct bpf_spin_lock lock;
	__u32 owner; /* number of the limit, and 256 for IPv6 */
	__u64 start;
	__u64 end;
	__u64 last_ns; /* of the newest stamp, boot time */
	__u64 refused;
	__u32 attempts; /* stamps made so far */
	__u32 stamps[ONEVIP_BURST_MAX];
	__u32 reserved;
};

struct onevip_allowed_key {
	__u32 length; /* of the prefix, in bits, with those of the owner */
	__u32 owner; /* as in onevip_source */
	__be32 words[4]; /* IPv4 uses the first */
};

/* A SYN to be answered. */
struct onevip_refusal {
	__u32 ifindex;
	__u32 action; /* enum onevip_limit_action */
	__u32 length; /* of what is here of the packet */
	__u8 ethernet[16]; /* the frame's first bytes: 14 of them matter */
	__u8 packet[ONEVIP_REFUSED_MAX]; /* from its IP header on */
};

/* Room in each trie of bans; what may be in force at once is decided by the daemon, and is half of that. */
#define ONEVIP_BAN_PLACES 32768

struct onevip_ban_key4 {
	__u32 length; /* of the prefix, in bits */
	__be32 address;
};

struct onevip_ban_key6 {
	__u32 length;
	__be32 words[4];
};

/* Boot time in ns until which a source is kept out: with everything, and with all but its sessions. The first is never
 * later. A wider ban counts in the narrower ones already, because only the narrowest is found. */
struct onevip_ban {
	__u64 everything_until_ns;
	__u64 openings_until_ns;
};

/* Connections of others' clients are noted in this many places, by the top bits of their flow's hash. */
#define ONEVIP_FLOWS_BITS 12
#define ONEVIP_FLOWS (1u << ONEVIP_FLOWS_BITS)
/* A SYN that comes again after so many ticks was not answered: TCP repeats it after a second. */
#define ONEVIP_SYN_AGAIN_TICKS 500
/* A connection that got somewhere keeps its place for so long against others. */
#define ONEVIP_FLOW_KEPT_TICKS 2400
/* A SYN is of the same connection as one that is no older than this. */
#define ONEVIP_FLOW_MEMORY_TICKS 60000

/* Bits of onevip_flow.state. */
#define ONEVIP_FLOW_REPEATED 1u /* the SYN came again */
#define ONEVIP_FLOW_OPEN 2u /* the client acknowledged the SYN-ACK */
#define ONEVIP_FLOW_SERVED 4u /* it acknowledged more than that */
#define ONEVIP_FLOW_ENDED 8u /* it sent FIN or RST before that */

/* A connection of another node's client. Times are ticks. */
struct onevip_flow {
	__u32 hash; /* flow_hash */
	__u16 word; /* of the bucket in the flags map */
	__u16 port; /* that the client speaks to */
	__u32 source; /* tells clients apart */
	__u32 isn; /* of the client */
	__u32 answer; /* what the first acknowledgement acknowledged */
	__u32 begun; /* when the SYN came */
	__u32 opened; /* when that acknowledgement came */
	__u32 ended;
	__u32 state;
};

enum onevip_family {
	ONEVIP_FAMILY_NONE = 0,
	ONEVIP_FAMILY_IPV4 = 4,
	ONEVIP_FAMILY_IPV6 = 6,
};

enum onevip_hash_mode {
	ONEVIP_SOURCE_IP = 0,
	ONEVIP_SOURCE_IP_PORT = 1,
	ONEVIP_SOURCE_IP_PORT_DEST_PORT = 2,
	ONEVIP_SOURCE_NET = 3,
};

enum onevip_order {
	ONEVIP_ORDER_MEMORY = 0,
	ONEVIP_ORDER_HOST = 1,
};

/* Who answers a service's packets. */
enum onevip_answerer {
	ONEVIP_BY_BUCKET = 0,
	ONEVIP_BY_SOCKET = 1,
};

/* What becomes of packets that no service wants. */
enum onevip_other {
	ONEVIP_OTHER_OWNER = 0,
	ONEVIP_OTHER_DROP = 1,
};

struct onevip_address {
	__u32 family; /* enum onevip_family */
	__u32 vip; /* index into vips */
	__be32 words[4]; /* IPv4 uses the first; aligned to read two at once */
};

/* A range of ports that a VIP serves. The services of a VIP lie side by side. */
struct onevip_service {
	__u16 first_port;
	__u16 last_port;
	__u8 protocol; /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 mode; /* enum onevip_hash_mode */
	__u8 v4_prefix; /* as in the VIP */
	__u8 v6_prefix;
	__u8 answerer; /* enum onevip_answerer */
	__u8 limit; /* 0: none; else the number of a limit, from 1 on */
	__u8 slice_mask; /* BY_SOCKET: the bits of a port that say whose it is */
	__u8 slice; /* and what they are in this node's ports */
};

/* The jhash of one word as far as the seed alone decides it: done once by the daemon, not for every packet. */
struct onevip_jhash {
	__u32 b;
	__u32 c;
	__u32 c_rotated; /* left by 11 */
};

struct onevip_vip {
	__u32 seed;
	struct onevip_jhash begun;
	__u8 mode; /* enum onevip_hash_mode */
	__u8 order; /* enum onevip_order */
	__u8 blocks; /* 0: balanced buckets; 1..64: contiguous blocks */
	__u8 v4_prefix; /* bits of an address that count, 32 unless the mode is SOURCE_NET */
	__u8 v6_prefix;
	__u8 plain; /* 1: sources hash whole, alone, in memory order, onto balanced buckets, whatever the service: the
		     * default, and fast */
	__u16 beat_port;
	__u8 cluster_mac[6];
	__u16 orphan_wait_ms; /* ticks between the first segment of an orphan and one that may be reset */
	__u8 service_first; /* index into services */
	__u8 service_count;
	__u8 other; /* enum onevip_other */
	__u8 exceptions; /* 1: for some sources something else counts */
};

struct onevip_settings {
	__u32 address_count;
	__u32 vip_count;
	__u32 half; /* of the configuration: which exceptions belong to these settings */
	__u32 traced; /* 1 while somebody watches, see struct onevip_tracing; not the daemon's word */
	struct onevip_address addresses[ONEVIP_ADDRESSES_MAX];
	struct onevip_vip vips[ONEVIP_VIPS_MAX];
	struct onevip_service services[ONEVIP_SERVICES_MAX];
	__u32 limit_count;
	__u32 limit_seed;
	struct onevip_limit limits[ONEVIP_LIMITS_MAX];
	__u64 checksum; /* over everything above but `traced`; the daemon's business */
};

/* Some sources: key of the exceptions, whose longest match counts. Before the address, everything has to match. */
struct onevip_exception_key {
	__u32 prefix_length; /* in bits, from here on */
	__u8 half;
	__u8 vip;
	__u8 family; /* enum onevip_family */
	__u8 reserved;
	__be32 words[4];
};

#define ONEVIP_SOURCE_HEAD_BITS 32

/* What counts for them. */
struct onevip_exception {
	__u8 mode; /* enum onevip_hash_mode */
	__u8 v4_prefix; /* as in the VIP */
	__u8 v6_prefix;
	__u8 bucket_count; /* 0: the mode counts; else only these buckets, and the VIP's or service's mode */
	__u16 buckets[ONEVIP_RESERVED];
};

/* The daemon writes the half that is not active, then flips: the program never sees half a change. */
struct onevip_config {
	__u32 magic;
	__u32 layout;
	__u32 active; /* 0 or 1 */
	__u32 reserved;
	struct onevip_settings halves[2];
};

/* Beats: the IP datagram as it arrived, from its IP header on. */
#define ONEVIP_BEATS_BYTES (512 * 1024)
#define ONEVIP_DATAGRAM_MAX 1600

struct onevip_beat {
	__u64 received_ns; /* boot time */
	__u32 vip;
	__u32 address;
	__u32 length; /* of the frame behind its link header, padding included */
	__u32 captured; /* how much of it is here */
	__u8 datagram[ONEVIP_DATAGRAM_MAX];
};

/*
 * What `onevip trace` wants to see. It writes this, and sets `traced` in both halves of the settings; it renews
 * `until_ns` all the time, so that nothing is traced any more soon after it has gone, however it went.
 */
struct onevip_tracing {
	__u64 until_ns; /* boot time */
	__u32 family; /* enum onevip_family of the prefix; none: everything */
	__u32 rate_max; /* records in a window at most */
	__be32 words[4]; /* the prefix, zero beyond its length */
	__be32 mask[4];
	/* The programs' own: */
	__u64 lost; /* decisions of which no record was made, because there were too many */
	__u32 window; /* boot time, shifted */
	__u32 in_window; /* records made in this window */
};

/* A window is 2^30 ns, about a second. */
#define ONEVIP_TRACE_WINDOW_SHIFT 30
#define ONEVIP_TRACES_BYTES (512 * 1024)
#define ONEVIP_TRACE_FRAME_MAX 192

/* One decision, and the start of the frame that it is about. */
struct onevip_trace {
	__u64 time_ns; /* boot time */
	__u32 ifindex;
	__u32 length; /* of the whole frame */
	__u16 captured; /* how much of it is here */
	__u8 program; /* enum onevip_program */
	__u8 reason; /* enum onevip_reason */
	__u32 reserved;
	__u8 frame[ONEVIP_TRACE_FRAME_MAX];
};

/* What of openings came in, and what left for it. */
enum onevip_effect {
	ONEVIP_SYN_IN = 0, /* SYNs let in */
	ONEVIP_SYN_ACK_OUT = 1,
	ONEVIP_RESET_OUT = 2,
	ONEVIP_HANDSHAKE_IN = 3, /* third segments for which a socket was there, half open or by cookie */
	ONEVIP_ORPHAN_IN = 4, /* segments let in for the stack to reset */
	ONEVIP_QUESTION_IN = 5, /* ARP requests and neighbour solicitations let in */
	ONEVIP_ANSWER_OUT = 6, /* ARP replies and solicited neighbour advertisements */
	ONEVIP_EFFECTS = 7,
};

/* Whom the openings are of. Neighbours ask on the link alone. */
enum onevip_kind {
	ONEVIP_ON_LINK = 0,
	ONEVIP_ROUTED = 1,
	ONEVIP_KINDS = 2,
};

#define ONEVIP_EFFECTS_ROOM 8

/* By VIP address and kind of client, each CPU its own copy. */
struct onevip_effects {
	__u64 counts[ONEVIP_ADDRESSES_MAX][ONEVIP_KINDS][ONEVIP_EFFECTS_ROOM];
};

#define ONEVIP_ON_LINK_MAX 8

/* A network on the link; a place that is not used matches nothing: its mask is 0, its network is not. */
struct onevip_network4 {
	__be32 network;
	__be32 mask;
};

struct onevip_network6 {
	__u64 network[2]; /* as they lie in memory */
	__u64 mask[2];
};

/* Which clients are on the link, and who opened last. */
struct onevip_clients {
	struct onevip_network4 v4[ONEVIP_ON_LINK_MAX]; /* Writer: the daemon. */
	struct onevip_network6 v6[ONEVIP_ON_LINK_MAX];
	/* Writer: the ingress program. The source of the newest SYN that was let in; IPv4 uses the first word. */
	__be32 newest[ONEVIP_ADDRESSES_MAX][ONEVIP_KINDS][4];
	/* Writer: the daemon. Of which port SYNs and SYN-ACKs count; 0: of all. */
	__be16 port[ONEVIP_ADDRESSES_MAX];
	/* Writer: the daemon. 1: it resets orphans itself, because the stack's resets do not leave. */
	__u32 resets;
	__u32 reserved;
};

/* Counters: one row of ONEVIP_REASONS_MAX per program. */
enum onevip_program {
	ONEVIP_INGRESS = 0,
	ONEVIP_XDP = 1,
	ONEVIP_EGRESS = 2,
	ONEVIP_PROGRAMS = 3,
};

#define ONEVIP_REASONS_MAX 64

/* The row of the egress guard. */
enum onevip_guard {
	ONEVIP_GUARD_REWROTE = 0, /* the cluster MAC put in place of the interface's own */
	ONEVIP_GUARD_FAILED = 1, /* it could not be, so the frame was dropped */
	ONEVIP_GUARD_SAMPLED = 2, /* not the guard's: segments in sampled buckets, which cost more than others */
};

/* The rows of ingress and XDP; numbers, names and meanings are those of Reason in onevip-core. */
enum onevip_reason {
	ONEVIP_NOT_OURS = 0, /* never counted: this path has to be cheap */
	ONEVIP_MALFORMED = 1,
	ONEVIP_BEAT = 2,
	ONEVIP_BEAT_LOST = 3,
	ONEVIP_ARP_ANSWER = 4,
	ONEVIP_ARP_FOREIGN = 5,
	ONEVIP_ARP_TO_VIP = 6,
	ONEVIP_ARP_ECHO = 7,
	ONEVIP_ARP_STRANGER = 8,
	ONEVIP_SYN_OWN = 9,
	ONEVIP_SYN_FOREIGN = 10,
	ONEVIP_SYN_LAPSED = 11,
	ONEVIP_TCP_HELD = 12,
	ONEVIP_TCP_FOREIGN = 13,
	ONEVIP_TCP_NOT_HERE = 14,
	ONEVIP_TCP_HALF_OPEN = 15,
	ONEVIP_TCP_HALF_OPEN_STALE = 16,
	ONEVIP_TCP_TIME_WAIT = 17,
	ONEVIP_TCP_TIME_WAIT_FOREIGN = 18,
	ONEVIP_TCP_COOKIE = 19,
	ONEVIP_TCP_ORPHAN = 20,
	ONEVIP_TCP_ELSEWHERE = 21,
	ONEVIP_ICMP_ERROR_OWN = 22,
	ONEVIP_ICMP_ERROR_FOREIGN = 23,
	ONEVIP_ICMP_OWN = 24,
	ONEVIP_ICMP_FOREIGN = 25,
	ONEVIP_UDP_OWN = 26,
	ONEVIP_UDP_FOREIGN = 27,
	ONEVIP_FRAGMENT_OWN = 28,
	ONEVIP_FRAGMENT_FOREIGN = 29,
	ONEVIP_OTHER_OWN = 30,
	ONEVIP_OTHER_FOREIGN = 31,
	ONEVIP_TCP_ORPHAN_FIRST = 32,
	ONEVIP_ND_ANSWER = 33,
	ONEVIP_ND_FOREIGN = 34,
	ONEVIP_ND_TO_VIP = 35,
	ONEVIP_ND_ECHO = 36,
	ONEVIP_ND_STRANGER = 37,
	ONEVIP_SYN_UNSERVED = 38,
	ONEVIP_TCP_UNSERVED = 39,
	ONEVIP_UDP_UNSERVED = 40,
	ONEVIP_OTHER_UNSERVED = 41,
	ONEVIP_UDP_HELD = 42,
	ONEVIP_UDP_NOT_HERE = 43,
	ONEVIP_UDP_OTHER_SLICE = 44,
	ONEVIP_BANNED = 45,
	ONEVIP_SYN_LIMITED = 46,
	ONEVIP_REASONS = 47,
};

#endif
