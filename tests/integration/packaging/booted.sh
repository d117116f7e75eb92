# What dpkg and rpm do to a gateway that carries streams. Runs as root in a machine of its own.
certificate=/etc/scistream/server.crt
sessions=0
mkdir /run/streams

# All files, with mode and owner, and what is in those of /etc; but what package managers keep to
# themselves, and users, who stay.
everything() {
    find / /run -xdev \( -path /var/lib/dpkg -o -path /root/.rpmdb -o -path /run/streams -o -path /run/systemd/units \
        -o -path /run/systemd/journal -o -path /run/systemd/dynamic-uid -o -path /run/log -o -path /var/log -o -path /packages \) -prune \
        -o ! -path '/etc/*passwd*' ! -path '/etc/*shadow*' ! -path '/etc/*group*' ! -path '/run/tunnel' \
        -printf '%p %y%m %u:%g\n'
    find /var/log -maxdepth 1 -type d -printf '%p %m %u:%g\n'
    find /etc -type f ! -path '/etc/*passwd*' ! -path '/etc/*shadow*' ! -path '/etc/*group*' -exec cksum {} +
}
# Sends numbered lines of 1000 bytes through a new tunnel, until it is told that it is enough.
stream() {
    local name=/run/streams/$1 target=$2 port
    sleep infinity | busybox nc -l -p "$target" >"$name.received" &
    port=$(tunnel "$target") || trouble "$1: $(cat /run/tunnel)"
    sed 's/.*"uid":"\([^"]*\)".*/\1/' /run/tunnel >"$name.uid"
    (
        round=0
        while [ ! -e "$name.enough" ]; do
            round=$((round + 1))
            printf "$round %0990d\n" 0 1 2 3 4 5 6 7 8 9
            sleep 0.01
        done
        : >"$name.sent_all"
    ) | tee "$name.sent" | busybox nc 127.0.0.1 "$port" >/dev/null &
    sessions=$((sessions + 2))
    goes_on "$1"
}
came() { [ "$(stat -c %s "/run/streams/$1.received")" -gt "$2" ]; }
goes_on() { eventually "$1 goes on" came "$1" $(($(stat -c %s "/run/streams/$1.received") + 100000)); }
# Its receiver takes one connection and no other, so it is still the first.
ends_whole() {
    : >"/run/streams/$1.enough"
    all_came() { [ -e "/run/streams/$1.sent_all" ] && cmp -s "/run/streams/$1.sent" "/run/streams/$1.received"; }
    eventually "every byte of $1 has come, and no other" all_came "$1"
    echo "$1: 0 of $(stat -c %s "/run/streams/$1.sent") bytes lost"
}
starts_new() { [ "$(readlink "/proc/$(systemctl show --value -p MainPID "$1")/exe")" = "/usr/bin/${1%.service}" ]; }
opened() { nft list set inet filter scistream4 | grep -q elements; }
# Makes a gateway of what is installed, with a stream over processes of s2cs's, and one over units of their own.
serve() {
    s2cs setup --yes --wan-ip 127.0.0.1 --host localhost --callers unknown || trouble 'no setup'
    sed -i '1i firewall = "/run/scistream/s2fw.sock"' $config
    systemctl enable --now s2fw.socket scistream-session.socket s2cs || trouble 'it does not start'
    stream native 7000
    sed -i 's/^backend = .*/backend = "haproxy"/; 1i session_units = "/run/scistream/session.sock"' $config
    reload
    stream haproxy 7001
    s2uc_ list --s2cs 127.0.0.1:5000 --json | grep -q '"backend":"haproxy"' || trouble 'not by haproxy'
    [ -n "$(session_units)" ] || trouble 'no units of their own'
    opened || trouble 'the firewall is shut'
}
# What an upgrade by this command must leave as it is, and what not.
upgrade() {
    local main helper running units
    main=$(show MainPID) helper=$(systemctl show --value -p MainPID s2fw) running=$(proxies) units=$(session_units)
    "$@" >/run/streams/said 2>&1 || trouble "no upgrade: $(cat /run/streams/said)"
    cat /run/streams/said
    is ActiveState active || trouble 'it is not active'
    is NRestarts 0 || trouble 'it has ended by itself'
    for service in s2cs s2fw; do
        starts_new $service || trouble "$service is not what is installed: $(ls -l "/proc/$(systemctl show --value -p MainPID $service)/exe")"
    done
    is MainPID "$main" && trouble 'it is the same process'
    [ "$(systemctl show --value -p MainPID s2fw)" = "$helper" ] && trouble 's2fw is the same process'
    [ "$(proxies)" = "$running" ] || trouble "other proxies: $running, now $(proxies)"
    [ "$(session_units)" = "$units" ] || trouble "other units: $units, now $(session_units)"
    status_holds "sessions: $sessions" || trouble "its status is $(show StatusText)"
    for unit in s2cs.service s2fw.socket scistream-session.socket; do
        systemctl --quiet is-enabled $unit && systemctl --quiet is-active $unit || trouble "$unit is not enabled, or not active"
    done
    s2uc_ list --s2cs 127.0.0.1:5000 --json | grep -q '"degraded":"[^"]' && trouble 'a session is degraded'
    opened || trouble 'the firewall is shut'
    goes_on native
    goes_on haproxy
    port=$(tunnel 7002) || trouble "$(cat /run/tunnel)"
    answers "$port" || trouble 'nothing comes back through a new tunnel'
    sessions=$((sessions + 2))
}
release() {
    ends_whole "$1"
    s2uc_ release "$(cat "/run/streams/$1.uid")" --s2cs 127.0.0.1:5000 || trouble 'no release'
    sessions=$((sessions - 2))
    rm "/run/streams/$1".*
}
# Nothing of the package is at work, and systemd knows of none of it.
all_is_quiet() {
    [ -z "$(pgrep -u scistream)" ] || trouble "left: $(ps -u scistream -f)"
    [ -z "$(pgrep -x 's2cs|s2fw|s2ds')" ] || trouble "left: $(ps -ef)"
}
no_trace() {
    local units
    units=$(systemctl list-units --all --no-legend --plain '*s2cs*' '*s2fw*' '*scistream*'; systemctl list-unit-files --no-legend '*s2cs*' '*s2fw*' '*scistream*')
    [ -z "$units" ] || trouble "units are left: $units"
    everything | sort >/run/streams/after
    diff /run/streams/before /run/streams/after || trouble 'something is left, or gone'
    getent passwd scistream | grep -q ':/usr/sbin/nologin$' || trouble 'the user can log in, or is gone'
}

nft -f - <<'END' || trouble 'no firewall'
table inet filter {
    set scistream4 { type inet_proto . ipv4_addr . ipv4_addr . inet_service; flags interval, timeout; }
    set scistream6 { type inet_proto . ipv6_addr . ipv6_addr . inet_service; flags interval, timeout; }
    chain input {
        type filter hook input priority 0; policy drop;
        ct state established accept
        meta l4proto . ip saddr . ip daddr . th dport @scistream4 accept
        tcp dport != 5100-5200 accept
    }
}
END
busybox nc -ll -p 7002 -e /bin/cat &
everything | sort >/run/streams/before

echo "== dpkg: installed, it does nothing yet"
dpkg --install /packages/earlier.deb || trouble 'it does not install'
is ActiveState inactive || trouble 'it runs'
[ -z "$(systemctl list-units --no-legend --plain '*s2cs*' '*s2fw*' '*scistream*')" ] || trouble 'units are active'
[ "$(systemctl is-enabled s2cs)" = disabled ] || trouble 'it is enabled'
serve

echo "== dpkg: an upgrade ends no stream"
upgrade dpkg --force-confdef --force-confold --install /packages/new.deb
case $(dpkg-query --show --showformat='${Version}' scistream) in 2.*) ;; *) trouble 'not the new version' ;; esac
release native

echo "== dpkg: removed, it takes its sessions with it"
dpkg --remove scistream || trouble 'it cannot be removed'
all_is_quiet
! opened || trouble "openings are left: $(nft list set inet filter scistream4)"
dpkg --purge scistream || trouble 'it cannot be purged'
no_trace

echo "== rpm: an upgrade ends no stream"
rm -f /run/streams/native* /run/streams/haproxy*
sessions=0
# Folders that are other packages' on a Red Hat system.
mkdir -p /usr/lib/firewalld/services /usr/share/fish/vendor_completions.d /usr/share/licenses /usr/share/zsh/site-functions
everything | sort >/run/streams/before
rpm --initdb
rpm --install --nodeps /packages/earlier.rpm || trouble 'it does not install'
serve
upgrade rpm --upgrade --nodeps /packages/new.rpm
case $(rpm -q --queryformat '%{VERSION}' scistream) in 2.*) ;; *) trouble 'not the new version' ;; esac
ends_whole native
ends_whole haproxy

echo "== rpm: it takes its sessions with it where s2cs does not run"
systemctl stop s2cs
[ -n "$(proxies)" ] || trouble 'its sessions have ended'
rpm --erase scistream || trouble 'it cannot be removed'
all_is_quiet
# What the site has written, and the audit log, are the site's to remove.
rm -rf /etc/scistream /var/log/scistream
no_trace

echo "ALL WELL"
