#!/bin/sh
# Takes from the system below ROOT what belongs to this one machine: who it is, who may enter, what it has done.
# It says / for a machine that is about to become an image, and for no other: its way in is gone afterwards.
#
#   sh clean.sh ROOT
set -eu
[ $# -eq 1 ] && [ -n "$1" ] || { echo "usage: clean.sh ROOT" >&2; exit 64; }
root=${1%/}
[ -f "$root/etc/systemd/system/provision-boot-fuse.service" ] || {
    echo "$1 is no system that prepare.sh has prepared" >&2
    exit 1
}

# Whoever boots next is another machine: cloud-init begins anew, with an identity and host keys of its own.
rm -rf "$root"/var/lib/cloud "$root"/var/lib/provision
rm -f "$root"/etc/ssh/ssh_host_* "$root"/etc/netplan/50-cloud-init.yaml "$root"/etc/network/interfaces.d/50-cloud-init*
: >"$root/etc/machine-id"
# A link to the one above, where it is no file of its own.
[ -L "$root/var/lib/dbus/machine-id" ] || rm -f "$root/var/lib/dbus/machine-id"
rm -f "$root"/var/lib/systemd/random-seed "$root"/etc/docker/key.json "$root"/var/lib/docker/engine-id
rm -f "$root"/var/lib/dhcp/*.leases "$root"/var/lib/dhclient/*
rm -rf "$root"/var/lib/amazon/ssm

for home in "$root/root" "$root"/home/*; do
    rm -rf "$home/.ssh/authorized_keys" "$home/.docker" "$home/.aws" "$home/.cache"
    rm -f "$home"/.*_history "$home/.lesshst" "$home/.viminfo" "$home/.wget-hsts" "$home/.sudo_as_admin_successful"
done

rm -rf "$root"/tmp/* "$root"/tmp/.[!.]* "$root"/var/tmp/* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
rm -rf "$root"/var/log/journal/*
# Emptied and not removed: some have an owner that their writer would not give them again.
find "$root/var/log" -type f -exec sh -c 'for file; do : >"$file"; done' sh {} +
sync
echo "clean: nothing of this machine is left"
