/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What this kernel knows of a TCP flow. Its socket table is the connection table.
 */
#ifndef ONEVIP_SOCKET_H
#define ONEVIP_SOCKET_H

#include <linux/ip.h>
#include <linux/tcp.h>
#include "maps.h"

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
	SOCKET_TIME_WAIT,
};

struct socket {
	enum socket_kind kind;
	__u32 sent_isn; /* of a request */
};

/* Looks a flow up. With the segment's headers, it also tells whether a listener accepts their SYN cookie. */
static __always_inline struct socket socket_find(void *ctx, struct bpf_sock_tuple *flow, struct iphdr *ip,
						 struct tcphdr *tcp)
{
	struct socket found = { .kind = SOCKET_NONE };
	struct tcp_request_sock *request;
	struct bpf_sock *sk;

	sk = bpf_skc_lookup_tcp(ctx, flow, sizeof(flow->ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return found;
	switch (sk->state) {
	case BPF_TCP_LISTEN:
		found.kind = SOCKET_LISTENER;
		if (tcp && !bpf_tcp_check_syncookie(sk, ip, sizeof(*ip), tcp, sizeof(*tcp)))
			found.kind = SOCKET_COOKIE;
		break;
	case BPF_TCP_NEW_SYN_RECV:
		found.kind = SOCKET_REQUEST;
		request = bpf_skc_to_tcp_request_sock(sk);
		if (request)
			found.sent_isn = request->snt_isn;
		break;
	case BPF_TCP_TIME_WAIT:
		found.kind = SOCKET_TIME_WAIT;
		break;
	default:
		found.kind = SOCKET_CONNECTED;
	}
	bpf_sk_release(sk);
	return found;
}

#endif
