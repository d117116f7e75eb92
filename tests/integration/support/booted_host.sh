# What scripts in the machine begin with.
set -u -o pipefail
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
config=/etc/scistream/s2cs.toml

trouble() {
    echo "NOT WELL: $*"
    systemctl status --no-pager --full s2cs 2>&1 | tail -30
    journalctl --no-pager -o cat -u s2cs -u s2fw | tail -60
    exit 1
}
# Looks until it holds.
eventually() {
    local what=$1 tries
    shift
    for tries in $(seq 150); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    trouble "not in time: $what"
}
show() { systemctl show --value -p "$1" s2cs; }
is() { [ "$(show "$1")" = "$2" ]; }
status_holds() { case $(show StatusText) in *"$1"*) ;; *) false ;; esac; }
s2uc_() { s2uc "$@" --server-cert "$certificate"; }
# Opens both halves and prints where the consumer connects.
tunnel() {
    s2uc_ tunnel --prod 127.0.0.1:5000 --prod-target "127.0.0.1:$1" --cons 127.0.0.1:5000 --detach --json |
        tee /run/tunnel | sed 's/.*"cons":{[^}]*"listeners":\["127.0.0.1:\([0-9]*\)".*/\1/'
}
answers() {
    local said
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'hello\n' >&3
    read -r -t 20 said <&3
    exec 3>&-
    [ "$said" = hello ]
}
times_in_force() { journalctl --no-pager -o cat -u s2cs | grep -c 'the configuration is in force'; }
# Reloads, and waits until the file counts.
reload() {
    local before
    before=$(times_in_force)
    in_force() { [ "$(times_in_force)" -gt "$before" ]; }
    systemctl reload s2cs || trouble 'no reload'
    eventually 'the configuration is in force' in_force
}
proxies() { pgrep -u scistream -x 's2ds|stunnel4|haproxy|nginx' | sort; }
session_units() { systemctl list-units --no-legend --plain --state=running 'scistream-session@*' | cut -d ' ' -f 1; }

ip link set lo up
