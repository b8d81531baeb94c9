#!/bin/sh
# Linux: a larger arp_ignore on an interface can open what arp_ignore of "all" had closed.
#
# The kernel takes the larger of conf/all/arp_ignore and conf/IF/arp_ignore, as if a larger number were stricter. It is not: 1 keeps
# an interface from answering ARP for addresses of other interfaces, 3 only for addresses of scope host, and answers for all
# others wherever they are. So on a host that was hardened with all = 1, IF = 3 makes IF answer for its neighbour's addresses.
# onevip wants 3 on interfaces that do not bear its address, and therefore leaves them alone where "all" has a value.
# Seen on Linux 6.18.44:
#   all=1: 0 answers    all=1 and the interface 3: 1 answers    all=0 and the interface 1: 0 answers
# Needs root, iproute2 and iputils-arping. Exits 0 while that is so, 1 if it has changed, 2 if it could not be tried.
set -eu
host=finding-arp-host-$$ lan=finding-arp-lan-$$
trap 'ip netns del "$host" 2>/dev/null || true; ip netns del "$lan" 2>/dev/null || true' EXIT
ip netns add "$host" && ip netns add "$lan" || exit 2
ip -n "$host" link add one type dummy 2>/dev/null || ip -n "$host" link add one type veth peer name end
ip -n "$host" link add two type veth peer name eth0 netns "$lan" || exit 2
ip -n "$host" addr add 198.51.100.1/24 dev one
ip -n "$host" addr add 203.0.113.1/24 dev two
ip -n "$host" link set one up
ip -n "$host" link set two up
ip -n "$lan" addr add 203.0.113.2/24 dev eth0
ip -n "$lan" link set eth0 up
answers() { # ALL TWO: how many of one question for the address of the other interface
    ip netns exec "$host" sysctl -qw "net.ipv4.conf.all.arp_ignore=$1" "net.ipv4.conf.two.arp_ignore=$2" || exit 2
    ip netns exec "$lan" arping -c 1 -w 1 -I eth0 198.51.100.1 2>/dev/null | sed -n 's/^Received \([0-9]*\) response.*/\1/p'
}
# The interface is of use: it answers for its own address, and for the other's where nothing forbids it.
ip netns exec "$lan" arping -q -c 1 -w 5 -I eth0 203.0.113.1 || exit 2
[ "$(answers 0 0)" = 1 ] || exit 2
closed=$(answers 1 0) opened=$(answers 1 3) own=$(answers 0 1)
echo "$(uname -r)"
echo "all=1: $closed answers    all=1 and the interface 3: $opened answers    all=0 and the interface 1: $own answers"
[ "$closed $opened $own" = "0 1 0" ]
