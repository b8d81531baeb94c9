/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Services that are answered by whoever has the socket, from whatever address the client speaks by now: mosh. Each node
 * has a slice of their ports, so that a port alone says where a datagram belongs. The twin of
 * crates/onevip-core/src/slice.rs.
 */
#ifndef ONEVIP_SLICE_H
#define ONEVIP_SLICE_H

#include <linux/in.h>
#include "service.h"
#include "socket.h"

/* The service on this UDP port (host order) if sockets answer it, or NULL. */
static __always_inline const struct onevip_service *service_by_socket(const struct onevip_settings *settings,
								      __u32 vip, __u32 port)
{
	int index = service_find(settings, vip, IPPROTO_UDP, port);

	if (index < 0 || service_at(settings, index)->answerer != ONEVIP_BY_SOCKET)
		return NULL;
	return service_at(settings, index);
}

/* Whether a port belongs to this node. */
static __always_inline bool slice_contains(const struct onevip_service *service, __u32 port)
{
	return (port & service->slice_mask) == service->slice;
}

/* Whether a datagram of this flow has a socket here; the size says of which family it is. */
static __always_inline bool datagram_has_socket(void *ctx, struct bpf_sock_tuple *flow, __u32 size)
{
	struct bpf_sock *sk = bpf_sk_lookup_udp(ctx, flow, size, BPF_F_CURRENT_NETNS, 0);

	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

/* Whether this node has the socket of a flow on a port of such a service. A lookup matches any wildcard socket, so it is
 * made in this node's own slice alone: elsewhere such a socket would answer beside the one that is meant. */
static __always_inline enum onevip_reason classify_by_socket(void *ctx, const struct onevip_service *service,
							     struct bpf_sock_tuple *flow, __u32 size, __u32 port)
{
	if (!slice_contains(service, port))
		return ONEVIP_UDP_OTHER_SLICE;
	return datagram_has_socket(ctx, flow, size) ? ONEVIP_UDP_HELD : ONEVIP_UDP_NOT_HERE;
}

#endif
