# Sourced by deploy/up and deploy/down: the product's own processes.

RUN=$LOCAL/run
LOGS=$LOCAL/logs
PROCESSES=(api relay notifier migrator provisioner billing dns)

# keep_secret NAME VALUE: made once, kept in .local/secrets.env.
keep_secret() {
    grep -qs "^$1=" "$LOCAL/secrets.env" || printf "%s='%s'\n" "$1" "$2" >>"$LOCAL/secrets.env"
}

make_secrets() {
    (umask 077 && touch "$LOCAL/secrets.env")
    keep_secret OWNER_EMAIL "owner@migrapanel.test"
    keep_secret OWNER_PASSWORD "$(secret)"
    keep_secret MIGRAPANEL__JWT_KEYS "local:$(secret)"
    keep_secret MIGRAPANEL__TOKEN_KEYS "local:$(head -c 32 /dev/urandom | base64)"
    keep_secret MIGRAPANEL__SEALING_KEYS "local:$(head -c 32 /dev/urandom | base64)"
}

# start_process NAME VAR=VALUE…: unless it runs already with this very binary and configuration.
start_process() {
    local name=$1 binary=$BIN/migrapanel-$1 arguments=() identity
    shift
    [ "$name" != api ] || arguments=(serve)
    identity=$(printf '%s\n' "$@" | cat - "$binary" | sha256sum)
    if runs "$RUN/$name.pid" && [ "$(cat "$RUN/$name.identity" 2>/dev/null)" = "$identity" ]; then
        return
    fi
    stop_process "$name"
    say "Starting $name (log: .local/logs/$name.log) …"
    setsid env "$@" "$binary" "${arguments[@]}" </dev/null >>"$LOGS/$name.log" 2>&1 7>&- 8>&- 9>&- &
    remember_process $! "$RUN/$name.pid"
    disown $!
    printf '%s' "$identity" >"$RUN/$name.identity"
}

stop_process() {
    local pid
    pid=$(process_of "$RUN/$1.pid") || return 0
    kill "$pid" 2>/dev/null || true
    wait_until 20 eval "! runs '$RUN/$1.pid'" || kill -s KILL "$pid" 2>/dev/null || true
    rm -f "$RUN/$1.pid" "$RUN/$1.identity"
}

stop_processes() {
    local name
    for name in dns billing provisioner migrator notifier relay api; do
        stop_process "$name"
    done
}

# api METHOD PATH [JSON]: prints the answer's data, in the tenant ACTING if that is set; a refusal ends the script with its sentence.
api() {
    local answer
    answer=$(curl -sS --max-time 120 -X "$1" "$API_URL$2" ${TOKEN:+-H "Authorization: Bearer $TOKEN"} \
        ${ACTING:+-H "X-Tenant-Id: $ACTING"} \
        ${3:+-H 'Content-Type: application/json' --data "$3"}) || fail "The API does not answer; see .local/logs/api.log."
    [ "$(jq -r .success <<<"$answer")" = true ] ||
        fail "$1 $2 was refused: $(jq -r '"\(.error) [\(.code), request \(.request_id)]", (.fields[]? | "  \(.path): \(.message)")' <<<"$answer")"
    jq -c .data <<<"$answer"
}

log_in() {
    TOKEN=
    TOKEN=$(api POST /api/auth/login "$(jq -nc --arg e "$OWNER_EMAIL" --arg p "$OWNER_PASSWORD" '{email: $e, password: $p}')" | jq -r .access_token)
}
