#!/bin/sh
# fail2ban: `fail2ban-client unban --all` and the end of fail2ban run the same command of an action, once.
#
# An action with `actionflush` gets that, and no `actionunban`, both when the server stops and when an administrator lifts all
# bans; nothing that the command is given tells the two apart. So an action whose bans should outlive fail2ban (they end
# by themselves, or other hosts share them) and therefore flushes nothing also ignores the administrator, while the
# client reports how many bans it lifted. onevip's action says so in its head.
# Seen with fail2ban 1.0.2 (Debian 1.0.2-2):
#   unban --all: client says 2, action ran: flush    stop: action ran: flush    unban ADDRESS: action ran: unban 192.0.2.1
# Needs apt-get, dpkg and python3; installs nothing outside a temporary folder, bans nobody. Exits 0 while that is so, 1 if
# it has changed, 2 if it could not be tried.
set -eu
version=1.0.2-2
dir=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$dir"' EXIT
(cd "$dir" && apt-get -qq download "fail2ban=$version" && dpkg -x fail2ban_*.deb .) || exit 2
export PYTHONPATH="$dir/usr/lib/python3/dist-packages"
mkdir -p "$dir/c/action.d" "$dir/c/filter.d"
printf '[Definition]\nfailregex = guess from <HOST>$\n' > "$dir/c/filter.d/f.conf"
printf '[Definition]\nactionban = true\nactionunban = echo unban <ip> >> %s/ran\nactionflush = echo flush >> %s/ran\n' \
    "$dir" "$dir" > "$dir/c/action.d/a.conf"
printf '[Definition]\nloglevel = INFO\nlogtarget = %s/log\nsyslogsocket = auto\ndbfile = None\ndbpurgeage = 1d\ndbmaxmatches = 1\n
socket = %s/sock\npidfile = %s/pid\n[Thread]\n' "$dir" "$dir" "$dir" > "$dir/c/fail2ban.conf"
printf '[DEFAULT]\nbackend = polling\nusedns = no\n[j]\nenabled = true\nfilter = f\nlogpath = %s/guesses\naction = a\n' \
    "$dir" > "$dir/c/jail.conf"
: > "$dir/guesses"
: > "$dir/ran"
client() { /usr/bin/python3 "$dir/usr/bin/fail2ban-client" -c "$dir/c" -s "$dir/sock" -p "$dir/pid" "$@"; }
ran() { tr '\n' ';' < "$dir/ran" | sed 's/;$//'; : > "$dir/ran"; }
until_there() { # FILE: at most 30 s
    for _ in $(seq 300); do [ -s "$1" ] && return 0; sleep 0.1; done
    echo "nothing came to $1" >&2
    cat "$dir/log" >&2
    exit 2
}
/usr/bin/python3 "$dir/usr/bin/fail2ban-server" -f -x -c "$dir/c" -s "$dir/sock" -p "$dir/pid" start > /dev/null 2>&1 &
server=$!
for _ in $(seq 300); do client status j > /dev/null 2>&1 && break; sleep 0.1; done
ban() { client set j banip 192.0.2.1 192.0.2.2 > /dev/null; for _ in $(seq 300); do client status j | grep -q 'Currently banned:.*2' && break; sleep 0.1; done; }

ban
said=$(client unban --all)
until_there "$dir/ran"
all=$(ran)
ban
client set j unbanip 192.0.2.1 > /dev/null
until_there "$dir/ran"
one=$(ran)
client stop > /dev/null
wait "$server" || true
server=
stop=$(ran)

echo "fail2ban $version"
echo "unban --all: client says $said, action ran: $all    stop: action ran: $stop    unban ADDRESS: action ran: $one"
[ "$said,$all,$stop,$one" = "2,flush,flush,unban 192.0.2.1" ]
