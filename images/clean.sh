#!/bin/sh
# Removes from the system below ROOT what belongs to this one machine: its identity, logins, logs and state.
# Use / as ROOT only on a machine from which an AMI is made next, because logins are impossible afterwards.
#
#   sh clean.sh ROOT
set -eu
[ $# -eq 1 ] && [ -n "$1" ] || { echo "usage: clean.sh ROOT" >&2; exit 64; }
root=${1%/}
[ -f "$root/etc/systemd/system/provision-boot-fuse.service" ] || {
    echo "$1 was not prepared by prepare.sh: check ROOT" >&2
    exit 1
}

# The next boot is that of another machine: cloud-init must start over, and make a new identity and new host keys.
rm -rf "$root"/var/lib/cloud "$root"/var/lib/provision
rm -f "$root"/etc/ssh/ssh_host_* "$root"/etc/netplan/50-cloud-init.yaml "$root"/etc/network/interfaces.d/50-cloud-init*
: >"$root/etc/machine-id"
# A link to /etc/machine-id is kept; a separate file is removed.
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
# Empty the files instead of removing them: the programs that write them would not restore every file's owner.
find "$root/var/log" -type f -exec sh -c 'for file; do : >"$file"; done' sh {} +
sync
echo "clean: removed identity, logins, logs and state of this machine"
