#!/bin/sh
# Linux: a deprecated IPv4 address is chosen as a source like any other.
#
# RFC 4862 deprecation (`preferred_lft 0`) keeps an IPv6 address from being the source of new traffic. `ip` takes and shows
# the same lifetime for IPv4 addresses, "deprecated" and all, and inet_select_addr() (net/ipv4/devinet.c) never looks at it:
# the first address of the interface with a scope that is near enough wins. Who deprecates a service address so that
# the host does not speak in its name is safe by IPv6 and not by IPv4. `scope host` does it for IPv4.
# Seen on Linux 6.18.44 with iproute2 6.1.0:
#   IPv4 deprecated: source 198.51.100.10    IPv6 deprecated: source 2001:db8::11    IPv4 scope host: source 198.51.100.11
# Needs root and iproute2. Exits 0 while that is so, 1 if it has changed, 2 if it could not be tried.
set -eu
ns=finding-deprecated-$$
trap 'ip netns del "$ns" 2>/dev/null || true' EXIT
ip netns add "$ns" || exit 2
n="ip -n $ns"
$n link add eth0 type veth peer name other || exit 2
$n link set eth0 up
$n link set other up
source_to() { $n route get "$1" | sed -n 's/.* src \([^ ]*\).*/\1/p'; }

$n addr add 198.51.100.10/24 dev eth0 preferred_lft 0
$n addr add 198.51.100.11/24 dev eth0
$n addr add 2001:db8::10/64 dev eth0 nodad preferred_lft 0
$n addr add 2001:db8::11/64 dev eth0 nodad
$n -4 addr show dev eth0 | grep -q '198.51.100.10.* deprecated' || { echo "not shown as deprecated" >&2; exit 2; }
four=$(source_to 198.51.100.77)
six=$(source_to 2001:db8::77)

$n -4 addr flush dev eth0
$n addr add 198.51.100.10/32 dev eth0 scope host
$n addr add 198.51.100.11/24 dev eth0
host=$(source_to 198.51.100.77)

echo "$(uname -r), $(ip -V)"
echo "IPv4 deprecated: source $four    IPv6 deprecated: source $six    IPv4 scope host: source $host"
[ "$four $six $host" = "198.51.100.10 2001:db8::11 198.51.100.11" ]
