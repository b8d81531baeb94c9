// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The guard of ports: a service that is answered by whoever has the socket needs that no two nodes use the same port, so
 * a process here may bind only those of this node's slice. Others are refused with EPERM, and the program tries the next.
 *
 * An object of its own, attached to a cgroup and loaded only where there is such a service. It shares the configuration.
 */
#include "slice.h"

#define SOCKET_TYPE_DATAGRAM 2 /* SOCK_DGRAM */

/* The cookie of the network namespace that this host is; 0: any. Containers have ports of their own. */
const volatile __u64 onevip_home = 0;

static __always_inline bool is_elsewhere(struct bpf_sock_addr *ctx)
{
	return onevip_home && bpf_get_netns_cookie(ctx) != onevip_home;
}

static __always_inline bool port_is_foreign(const struct onevip_settings *settings, __u32 vip, __u32 port)
{
	const struct onevip_service *service = service_by_socket(settings, vip, port);

	return service && !slice_contains(service, port);
}

/* The same for a socket that takes what comes to any address. */
static __always_inline bool port_is_foreign_anywhere(const struct onevip_settings *settings, __u32 port)
{
	for (__u32 vip = 0; vip < ONEVIP_VIPS_MAX; vip++) {
		if (vip >= settings->vip_count)
			break;
		if (port_is_foreign(settings, vip, port))
			return true;
	}
	return false;
}

static __always_inline bool bind_refused_ipv4(const struct onevip_settings *settings, __be32 address, __u32 port)
{
	int found;

	if (!address)
		return port_is_foreign_anywhere(settings, port);
	found = address_find_ipv4(settings, address);
	return found >= 0 && port_is_foreign(settings, address_vip(settings, found), port);
}

static __always_inline bool bind_refused_ipv6(const struct onevip_settings *settings, const __be32 *address,
					      __u32 port)
{
	int found;

	/* The first half of a wildcard and of an IPv4 address in IPv6's clothes is zero. */
	if (!address[0] && !address[1]) {
		if (address[2] == bpf_htonl(0xffff))
			return bind_refused_ipv4(settings, address[3], port);
		if (!address[2] && !address[3])
			return port_is_foreign_anywhere(settings, port);
	}
	found = address_look_up_ipv6(settings, address);
	return found >= 0 && port_is_foreign(settings, address_vip(settings, found), port);
}

/* The port to be bound, or 0 when this is none of our business: the kernel chooses, or it is not UDP. */
static __always_inline __u32 port_wanted(struct bpf_sock_addr *ctx)
{
	if (ctx->type != SOCKET_TYPE_DATAGRAM || ctx->protocol != IPPROTO_UDP)
		return 0;
	return bpf_ntohs((__be16)ctx->user_port);
}

SEC("cgroup/bind4")
int onevip_bind4(struct bpf_sock_addr *ctx)
{
	const struct onevip_settings *settings = settings_now();
	__u32 port = port_wanted(ctx);

	if (!settings || !port || is_elsewhere(ctx))
		return 1;
	return !bind_refused_ipv4(settings, ctx->user_ip4, port);
}

SEC("cgroup/bind6")
int onevip_bind6(struct bpf_sock_addr *ctx)
{
	const struct onevip_settings *settings = settings_now();
	__u32 port = port_wanted(ctx);
	__be32 address[4];

	if (!settings || !port || is_elsewhere(ctx))
		return 1;
	address[0] = ctx->user_ip6[0];
	address[1] = ctx->user_ip6[1];
	address[2] = ctx->user_ip6[2];
	address[3] = ctx->user_ip6[3];
	return !bind_refused_ipv6(settings, address, port);
}

char _license[] SEC("license") = "Dual BSD/GPL";
