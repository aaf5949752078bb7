# Sourced by the scripts of deploy/: where things lie, how they speak, and the right to be root.
# Everything that a checkout runs lies under its .local/, so that clones never share anything.

CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
LOCAL=$CHECKOUT/.local
SANDBOX_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/migrapanel
# What all clones on this machine agree on: locks and the networks that are taken.
MACHINE_RUN=/run/migrapanel-sandbox

# Names that differ between clones are made from this.
CHECKOUT_HASH=$(printf '%s' "$CHECKOUT" | sha256sum | cut -c1-8)

say() { printf '%s\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

# as_root SCRIPT ARGS…: carries on as root, through sudo if need be.
as_root() {
    [ "$(id -u)" -ne 0 ] || return 0
    command -v sudo >/dev/null ||
        fail "This needs root: run it as root, or install sudo and try again."
    exec sudo --preserve-env=HOME,XDG_CACHE_HOME,DATABASE_URL,AMQP_URL,REDIS_URL,PDNS_API_URL,PDNS_API_KEY,DNS_ADDR,TARGET_DISK_MIB,PVE_CORES,PVE_MEMORY_MIB,PVE_DISK_MIB,PVE_FIREWALL,PVE_BINARY,http_proxy,https_proxy,no_proxy \
        "$@"
}

# The person who works in this checkout: owner of what programs without root must read.
owner_id() { printf '%s' "${SUDO_UID:-$(id -u)}"; }

# timed SENTENCE COMMAND…: says what is done, then how long it took if that was over 3 s. The
# command's output goes to a log; its end is shown when the command fails.
timed() {
    local sentence=$1 began=$SECONDS log status
    shift
    log=$(mktemp)
    say "$sentence …"
    # Not as a condition: there, bash would carry on after a failure inside a function.
    set +e
    (
        set -e
        "$@"
    ) >"$log" 2>&1
    status=$?
    set -e
    if [ "$status" -ne 0 ]; then
        tail -n 30 "$log" >&2
        rm -f "$log"
        fail "That failed: $sentence. The last lines of its output stand above."
    fi
    rm -f "$log"
    [ $((SECONDS - began)) -le 3 ] || say "  … done after $((SECONDS - began)) s."
}

# wait_until SECONDS COMMAND…: true as soon as the command is; false when the time is over.
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

# A process is remembered as "PID START", so that a number used again by another is never killed.
process_start() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    stat=${stat##*) }
    set -- $stat
    [ "$1" != Z ] || return 1
    printf '%s' "${20}"
}

remember_process() { printf '%s %s\n' "$1" "$(process_start "$1")" >"$2"; }

# process_of FILE: prints the remembered process if it still runs.
process_of() {
    local pid start
    [ -r "$1" ] && read -r pid start <"$1" && [ -n "$start" ] || return 1
    [ "$(process_start "$pid")" = "$start" ] && printf '%s' "$pid"
}

runs() { process_of "$1" >/dev/null; }

port_is_taken() { [ -n "$(ss -Hltun "sport = :$1")" ]; }

remembered_port() { sed -n "s/^$1=//p" "$LOCAL/ports" 2>/dev/null | head -n 1; }

# port NAME: the port of this name, chosen once. With "fresh" as second word, one that is taken
# by a stranger is given up for another.
port() {
    local name=$1 chosen
    chosen=$(remembered_port "$name")
    if [ -n "$chosen" ] && { [ "${2:-}" != fresh ] || ! port_is_taken "$chosen"; }; then
        printf '%s' "$chosen"
        return
    fi
    (
        flock 9
        free_port "$name"
    ) 9>"$(machine_lock ports)"
}

# Called under the machine's lock. Ports lie below the ephemeral range and apart for each clone.
free_port() {
    local name=$1 candidate=$((20000 + 16#$CHECKOUT_HASH % 600 * 20)) rest
    while port_is_taken "$candidate" || grep -q "=$candidate\$" "$LOCAL/ports" 2>/dev/null; do
        candidate=$((candidate + 1))
        [ "$candidate" -lt 32700 ] || candidate=20000
    done
    rest=$(grep -v "^$name=" "$LOCAL/ports" 2>/dev/null || true)
    printf '%s\n' ${rest:+"$rest"} "$name=$candidate" >"$LOCAL/ports.new"
    mv "$LOCAL/ports.new" "$LOCAL/ports"
    printf '%s' "$candidate"
}

# machine_lock NAME: the file of a lock that all clones on this machine share.
machine_lock() {
    mkdir -p "$MACHINE_RUN"
    printf '%s/%s.lock' "$MACHINE_RUN" "$1"
}

make_local() {
    mkdir -p "$LOCAL"
    chown "$(owner_id)" "$LOCAL"
    chmod 0711 "$LOCAL"
}

secret() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
