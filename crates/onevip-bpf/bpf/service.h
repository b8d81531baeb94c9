/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The services of a VIP. The twin of crates/onevip-core/src/selector.rs.
 *
 * Most segments need none of this: a foreign one is dropped before anybody asks for its service, unless the services
 * hash in different ways.
 */
#ifndef ONEVIP_SERVICE_H
#define ONEVIP_SERVICE_H

#include <bpf/bpf_endian.h>
#include "maps.h"

/* The index of the service on this port (host order), or -1. Not static, so that the verifier looks at it once. */
__noinline int service_find(const struct onevip_settings *settings, __u32 vip_index, __u32 protocol, __u32 port)
{
	const struct onevip_vip *vip;

	if (!settings)
		return -1;
	vip = &settings->vips[INDEX(vip_index, ONEVIP_VIPS_MAX)];
	for (__u32 i = 0; i < ONEVIP_SERVICES_MAX; i++) {
		__u32 index = INDEX(vip->service_first + i, ONEVIP_SERVICES_MAX);
		const struct onevip_service *service = &settings->services[index];

		if (i >= vip->service_count)
			break;
		if (service->protocol == protocol && port >= service->first_port && port <= service->last_port)
			return index;
	}
	return -1;
}

/* A service by the index that service_find() told. */
static __always_inline const struct onevip_service *service_at(const struct onevip_settings *settings, int index)
{
	return &settings->services[INDEX(index, ONEVIP_SERVICES_MAX)];
}

/* Whether what no service wants is dropped. */
static __always_inline bool others_dropped(const struct onevip_settings *settings, __u32 vip)
{
	return settings->vips[INDEX(vip, ONEVIP_VIPS_MAX)].other == ONEVIP_OTHER_DROP;
}

/* Whether packets to this port are wanted. Asked only about what this node would answer. */
static __always_inline bool port_is_served(const struct onevip_settings *settings, __u32 vip, __u32 protocol,
					   __be16 port)
{
	return !others_dropped(settings, vip) || service_find(settings, vip, protocol, bpf_ntohs(port)) >= 0;
}

#endif
