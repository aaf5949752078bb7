# Sourced by what makes roots of Debian 12 on this machine. NEW is the directory that is being made.

# The mirror that this machine uses itself; its own sources may name others, which are left out.
mirror() {
    local found
    found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        grep -Eo '^(deb |URIs:).*https?://[^ ]+/debian/?( |$)' | grep -Eo 'https?://[^ ]+' | head -n 1) || true
    printf '%s' "${found:-http://deb.debian.org/debian}"
}

in_root() {
    chroot "$NEW" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=/root \
        DEBIAN_FRONTEND=noninteractive ${http_proxy:+http_proxy="$http_proxy"} \
        ${https_proxy:+https_proxy="$https_proxy"} "$@"
}

unmount_new() {
    umount -l "$NEW/proc" "$NEW/dev" 2>/dev/null || true
}

debian_base() {
    debootstrap --variant=minbase --include=ca-certificates bookworm "$NEW" "$(mirror)"
}

# The new root must fetch packages as this machine does: same mirror, proxies and certificates. Nothing
# that is installed in it starts.
copy_apt_ways() {
    local base
    base=$(mirror)
    {
        printf 'deb %s bookworm main\n' "$base"
        printf 'deb %s bookworm-updates main\n' "$base"
        printf 'deb %s bookworm-security main\n' "$(printf '%s' "${base%/}" | sed 's,/debian$,/debian-security,')"
    } >"$NEW/etc/apt/sources.list"
    grep -lsE 'Acquire' /etc/apt/apt.conf.d/* | xargs -r cp -t "$NEW/etc/apt/apt.conf.d/"
    cp -r /usr/local/share/ca-certificates/. "$NEW/usr/local/share/ca-certificates/" 2>/dev/null || true
    cp /etc/resolv.conf /etc/hosts "$NEW/etc/"
    printf '#!/bin/sh\nexit 101\n' >"$NEW/usr/sbin/policy-rc.d"
    chmod 0755 "$NEW/usr/sbin/policy-rc.d"
    mount -t proc proc "$NEW/proc"
    mount --bind /dev "$NEW/dev"
}

# install_in_root PACKAGE…
install_in_root() {
    in_root update-ca-certificates
    in_root apt-get update
    in_root apt-get install -y --no-install-recommends -o Dpkg::Use-Pty=0 "$@"
    in_root apt-get clean
}

# What must be every server's own is made when it starts; what only costs time is switched off.
make_plain() {
    rm -f "$NEW"/usr/sbin/policy-rc.d "$NEW"/etc/ssh/ssh_host_* "$NEW"/var/lib/dbus/machine-id
    rm -rf "$NEW"/var/lib/apt/lists/* "$NEW"/etc/resolv.conf
    : >"$NEW/etc/machine-id"
    printf 'LANG=C.UTF-8\n' >"$NEW/etc/default/locale"
    printf '127.0.0.1 localhost\n' >"$NEW/etc/hosts"
    in_root systemctl mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer \
        e2scrub_reap.service fstrim.timer systemd-firstboot.service systemd-networkd-wait-online.service \
        getty.target console-getty.service systemd-timesyncd.service
    in_root passwd -l root
    install -d -m 0700 "$NEW/root/.ssh"
}
