// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The kernel part of onevip: three programs over one set of maps, and one for dry runs.
 *
 *   onevip.h   what is shared with the daemon      link.h, arp.h, ipv6.h, nd.h   reading frames
 *   maps.h     the maps and their questions        hash.h                        from source to bucket
 *   socket.h   what this kernel knows of a flow    classify.h                    what both families have in common
 *   peer_check.h                                   what other nodes' clients show
 *   verdict4.h, verdict6.h, verdict.h              the decision
 *   effect.h                                       what came in to open something, and what left for it
 *   ban.h, limit.h                                 who is let in nowhere, and who not so often
 *   ingress.h, egress.h, xdp.h, explain.h          the programs
 *   trace.h                                        telling a tracer of decisions
 */
#include "ingress.h"
#include "egress.h"
#include "xdp.h"
#include "explain.h"

char _license[] SEC("license") = "Dual BSD/GPL";
