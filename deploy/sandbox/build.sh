# Sourced by deploy/up, deploy/demo and deploy/test: building the product's binaries.

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$SANDBOX_CACHE/target}
# `release` for measurements.
PROFILE=${MIGRAPANEL_PROFILE:-debug}
BIN=$LOCAL/bin
BINARIES=(migrapanel-api migrapanel-relay migrapanel-notifier migrapanel-billing migrapanel-dns migrapanel-migrator
    migrapanel-provisioner migrapanel-agent migrapanel-stripe-sandbox migrapanel-pve-sandbox)
need_cargo() {
    command -v cargo >/dev/null ||
        fail "This needs a Rust toolchain, and cargo is not on the PATH: install one with rustup (https://rustup.rs), open a new shell and try again."
}

# build_binaries: into .local/bin, since clones share the cache of compiled crates.
build_binaries() {
    need_cargo
    make_local
    mkdir -p "$CARGO_TARGET_DIR" "$BIN"
    say "Building MigraPanel (the first time takes some minutes; the compiled crates are kept in $CARGO_TARGET_DIR) …"
    (
        flock 9
        cd "$CHECKOUT"
        local flags=()
        [ "$PROFILE" = debug ] || flags=("--$PROFILE")
        cargo build --locked --workspace --bins "${flags[@]}" || fail "The build failed; the compiler's words stand above."
        local name
        for name in "${BINARIES[@]}"; do
            cmp -s "$CARGO_TARGET_DIR/$PROFILE/$name" "$BIN/$name" && continue
            cp "$CARGO_TARGET_DIR/$PROFILE/$name" "$BIN/$name.new"
            mv "$BIN/$name.new" "$BIN/$name"
        done
    ) 9>"$CARGO_TARGET_DIR/migrapanel.lock"
}
