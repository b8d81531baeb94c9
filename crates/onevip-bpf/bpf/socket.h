/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What this kernel knows of a TCP flow. Its socket table is the connection table.
 */
#ifndef ONEVIP_SOCKET_H
#define ONEVIP_SOCKET_H

#include <stdbool.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_core_read.h>
#include "maps.h"

/* The IP header of a packet. The compiler always knows of which family it is. */
struct ip_header {
	bool is_v6;
	union {
		struct iphdr *v4;
		struct ipv6hdr *v6;
	};
};

/* The one field we need of the kernel's own structure; its real offset is filled in at load time (CO-RE). */
struct tcp_request_sock {
	__u32 snt_isn;
} __attribute__((preserve_access_index));

enum socket_kind {
	SOCKET_NONE,
	SOCKET_LISTENER,
	SOCKET_COOKIE, /* a listener, and the segment carries a SYN cookie issued here */
	SOCKET_CONNECTED, /* every state that is neither half open nor TIME_WAIT */
	SOCKET_REQUEST,
	SOCKET_REQUEST_UNREAD, /* a request whose SYN-ACK nothing is known of */
	SOCKET_TIME_WAIT,
};

struct socket {
	enum socket_kind kind;
	__u32 sent_isn; /* of a request */
};

/* Whether the kernel lets programs read its memory. Not under lockdown=confidentiality, where the verifier refuses the
 * very call; the loader says so beforehand, and the verifier leaves out what is never reached. */
volatile const bool onevip_may_read_kernel = true;

/*
 * Reads the sequence number of a half-open socket's SYN-ACK, in host order; false when it cannot be read.
 *
 * The kernel's cast knows the sockets of plain TCP alone. One whose listener has other operations (MPTCP, also for
 * clients that do not speak it; TLS; a socket map) is the same structure under other operations, so its field is read
 * where the types say it is. Arithmetic on a socket's pointer is forbidden, hence its value is read like anything else.
 * Static, not inline: the way of all other packets has nothing of it.
 */
static __noinline bool request_read(struct bpf_sock *sk, __u32 *sent_isn)
{
	struct tcp_request_sock *request = bpf_skc_to_tcp_request_sock(sk);

	if (request) {
		*sent_isn = request->snt_isn;
		return true;
	}
	if (!onevip_may_read_kernel)
		return false;
	return !bpf_probe_read_kernel(&request, sizeof(request), &sk) &&
	       !bpf_probe_read_kernel(sent_isn, sizeof(*sent_isn), &request->snt_isn);
}

/* What a socket that was found is; with the segment's headers also whether a listener accepts their SYN cookie. */
static __always_inline struct socket socket_look(struct bpf_sock *sk, struct ip_header ip, struct tcphdr *tcp)
{
	struct socket found = { .kind = SOCKET_NONE };

	switch (sk->state) {
	case BPF_TCP_LISTEN:
		found.kind = SOCKET_LISTENER;
		if (!tcp)
			break;
		if (ip.is_v6 ? !bpf_tcp_check_syncookie(sk, ip.v6, sizeof(*ip.v6), tcp, sizeof(*tcp)) :
			       !bpf_tcp_check_syncookie(sk, ip.v4, sizeof(*ip.v4), tcp, sizeof(*tcp)))
			found.kind = SOCKET_COOKIE;
		break;
	case BPF_TCP_NEW_SYN_RECV:
		found.kind = request_read(sk, &found.sent_isn) ? SOCKET_REQUEST : SOCKET_REQUEST_UNREAD;
		break;
	case BPF_TCP_TIME_WAIT:
		found.kind = SOCKET_TIME_WAIT;
		break;
	default:
		found.kind = SOCKET_CONNECTED;
	}
	return found;
}

/* Looks a flow up; the size says of which family it is. */
static __always_inline struct socket socket_find(void *ctx, struct bpf_sock_tuple *flow, __u32 size)
{
	struct bpf_sock *sk = bpf_skc_lookup_tcp(ctx, flow, size, BPF_F_CURRENT_NETNS, 0);
	struct socket found = { .kind = SOCKET_NONE };
	struct ip_header none = {};

	if (!sk)
		return found;
	found = socket_look(sk, none, NULL);
	bpf_sk_release(sk);
	return found;
}

/* The flow of a packet with these ports; returns the size that says of which family it is. */
static __always_inline __u32 flow_of(struct ip_header ip, __be16 source, __be16 dest, struct bpf_sock_tuple *flow)
{
	if (ip.is_v6) {
		__builtin_memcpy(flow->ipv6.saddr, &ip.v6->saddr, sizeof(flow->ipv6.saddr));
		__builtin_memcpy(flow->ipv6.daddr, &ip.v6->daddr, sizeof(flow->ipv6.daddr));
		flow->ipv6.sport = source;
		flow->ipv6.dport = dest;
		return sizeof(flow->ipv6);
	}
	flow->ipv4.saddr = ip.v4->saddr;
	flow->ipv4.daddr = ip.v4->daddr;
	flow->ipv4.sport = source;
	flow->ipv4.dport = dest;
	return sizeof(flow->ipv4);
}

/* Looks up the flow of a segment. */
static __always_inline struct socket socket_of_segment(void *ctx, struct ip_header ip, struct tcphdr *tcp)
{
	struct socket found = { .kind = SOCKET_NONE };
	struct bpf_sock_tuple flow;
	struct bpf_sock *sk;
	__u32 size = flow_of(ip, tcp->source, tcp->dest, &flow);

	sk = bpf_skc_lookup_tcp(ctx, &flow, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return found;
	found = socket_look(sk, ip, tcp);
	bpf_sk_release(sk);
	return found;
}

#endif
