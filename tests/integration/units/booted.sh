# What an operator does with a gateway under systemd. Runs as root in a machine of its own.
certificate=/root/server.crt

systemd-sysusers - <<'END' || trouble 'sysusers'
u scistream - "SciStream" /var/lib/scistream
END
mkdir -p /etc/scistream /etc/credstore

echo "== without a certificate it does not start, and says why"
systemctl start s2cs && trouble 'it has started'
journalctl --no-pager -o cat -u s2cs | grep -q 's2cs cert --host' || trouble 'it does not say what to do'
systemctl stop s2cs

echo "== nor with one that cannot be used"
(cd /root && s2cs cert --host localhost --ip 127.0.0.1) || trouble 'no certificate'
install -m 600 /root/server.crt /etc/credstore/s2cs.server.crt
echo nonsense >/etc/credstore/s2cs.server.key
printf 'listener_ip = "127.0.0.1"\nsandbox = "required"\n' >$config
systemctl start s2cs && trouble 'it has started'
systemctl stop s2cs
systemctl reset-failed s2cs 2>/dev/null

echo "== with a key that root alone can read, it does"
install -m 600 /root/server.key /etc/credstore/s2cs.server.key
systemctl start s2cs || trouble 'it does not start'
is ActiveState active && is SubState running || trouble 'it is not active'
status_holds 'ready on 127.0.0.1:5000, sessions: 0' || trouble "its status is $(show StatusText)"
[ "$(ps -o user= -p "$(show MainPID)")" = scistream ] || trouble 'another user'
grep -q '^CapEff:.*0000000000000000$' "/proc/$(show MainPID)/status" || trouble 'it has capabilities'

echo "== every backend runs in it"
busybox nc -ll -p 7001 -e /bin/cat &
sessions=0
for backend in native stunnel haproxy nginx; do
    printf 'listener_ip = "127.0.0.1"\nsandbox = "required"\nbackend = "%s"\n' $backend >$config
    reload
    port=$(tunnel 7001) || trouble "$backend: $(cat /run/tunnel)"
    answers "$port" || trouble "$backend: nothing comes back"
    sessions=$((sessions + 2))
    echo "$backend: $(s2uc_ list --s2cs 127.0.0.1:5000 --json | grep -o "\"backend\":\"$backend\"" | wc -l) halves"
done
eventually 'the sessions are counted' status_holds "sessions: $sessions"

echo "== a stream runs on while it restarts"
printf 'listener_ip = "127.0.0.1"\nsandbox = "required"\n' >$config
reload
sleep infinity | busybox nc -l -p 7000 >/run/received &
port=$(tunnel 7000) || trouble "$(cat /run/tunnel)"
(
    line=0
    while [ ! -e /run/enough ]; do
        line=$((line + 1))
        echo "this is line $line"
        sleep 0.01
    done
    echo "this is line $line" >/run/last
) | tee /run/sent | busybox nc 127.0.0.1 "$port" >/dev/null &
came() { [ "$(wc -l </run/received)" -gt "$1" ]; }
flows() { eventually 'the stream goes on' came $(($(wc -l </run/received) + 20)); }
flows
running=$(proxies)
main=$(show MainPID)
systemctl restart s2cs || trouble 'no restart'
is MainPID "$main" && trouble 'it is the same process'
sessions=$((sessions + 2))
status_holds "sessions: $sessions" || trouble "its status is $(show StatusText)"
[ "$(proxies)" = "$running" ] || trouble "other proxies: $running, now $(proxies)"
flows

echo "== and while it is killed"
systemctl kill --kill-who=main --signal=KILL s2cs
again() { is ActiveState active && is NRestarts "$1" && status_holds "sessions: $sessions"; }
eventually 'it is started again' again 1
[ "$(proxies)" = "$running" ] || trouble "other proxies: $running, now $(proxies)"
flows

echo "== and while it hangs, until the watchdog finds out"
mkdir -p /run/systemd/system/s2cs.service.d
printf '[Service]\nWatchdogSec=3s\n' >/run/systemd/system/s2cs.service.d/short.conf
systemctl daemon-reload
systemctl restart s2cs || trouble 'no restart'
kill -STOP "$(show MainPID)"
eventually 'it is started again' again 1
journalctl --no-pager -o cat -u s2cs | grep -qi 'watchdog timeout' || trouble 'not by the watchdog'
[ "$(proxies)" = "$running" ] || trouble "other proxies: $running, now $(proxies)"
flows

echo "== a file with a fault is not taken"
printf 'max_sessions = 0\nnonsense = true\n' >>$config
systemctl reload s2cs || trouble 'it cannot be told'
eventually 'its status says why' status_holds 'is not in force: /etc/scistream/s2cs.toml: nonsense'
eventually 'the reload is over' is SubState running
flows

echo "== the helper opens the firewall for a session"
nft -f - <<'END' || trouble 'no firewall'
table inet filter {
    chain input {
        type filter hook input priority 0; policy drop;
        ct state established accept
        tcp dport != 5100-5200 accept
    }
}
END
s2fw --print-ruleset | nft -f - || trouble 'no sets'
printf 'listener_ip = "127.0.0.1"\nsandbox = "required"\nfirewall = "/run/scistream/s2fw.sock"\n' >$config
systemctl start s2fw.socket || trouble 'no socket'
reload
eventually 'its status is good again' status_holds "ready on 127.0.0.1:5000, sessions: $sessions"
opened() { nft list set inet filter scistream4 | grep -q "$1"; }
port=$(tunnel 7001) || trouble "$(cat /run/tunnel)"
opened "$port" || trouble "$port is not open: $(nft list set inet filter scistream4)"
answers "$port" || trouble 'nothing comes back'
sessions=$((sessions + 2))

echo "== each proxy in a unit of its own"
mkdir -p /run/systemd/system/scistream-session@.service.d
printf '[Service]\nMemoryMax=200M\n' >/run/systemd/system/scistream-session@.service.d/limits.conf
systemctl daemon-reload
systemctl start scistream-session.socket || trouble 'no socket'
printf 'session_units = "/run/scistream/session.sock"\n' >>$config
reload
port=$(tunnel 7001) || trouble "$(cat /run/tunnel) $(journalctl --no-pager -o cat -u 'scistream-session@*')"
sessions=$((sessions + 2))
[ "$(session_units | wc -l)" = 2 ] || trouble "units: $(session_units)"
for unit in $(session_units); do
    limit=$(cat "/sys/fs/cgroup$(systemctl show --value -p ControlGroup "$unit")/memory.max")
    echo "$unit: $(cat "/proc/$(systemctl show --value -p MainPID "$unit")/comm"), at most $limit bytes"
    [ "$limit" = $((200 << 20)) ] || trouble 'it has no limit of its own'
done
answers "$port" || trouble 'nothing comes back'
before=$(session_units)
systemctl restart s2cs || trouble 'no restart'
[ "$(session_units)" = "$before" ] || trouble "other units: $before, now $(session_units)"
status_holds "sessions: $sessions" || trouble "its status is $(show StatusText)"
answers "$port" || trouble 'nothing comes back after the restart'

echo "== the end"
touch /run/enough
all_came() { [ "$(tail -n 1 /run/received)" = "$(cat /run/last)" ] && cmp -s /run/sent /run/received; }
eventually 'every byte has come, and no other' all_came
echo "0 of $(stat -c %s /run/sent) bytes lost over 4 restarts, a kill and a hang"
s2cs drain --config $config || trouble 'no drain'
systemctl stop s2cs
[ -z "$(session_units)" ] || trouble "units are left: $(session_units)"
[ -z "$(pgrep -u scistream)" ] || trouble "left: $(ps -u scistream -f)"
[ -z "$(ls -A /var/lib/scistream/sessions)" ] || trouble 'folders are left'
systemd-analyze security --no-pager s2cs.service s2fw.service 2>/dev/null | tail -3
echo "ALL WELL"
