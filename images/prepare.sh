#!/bin/sh
# Copies the files that every AMI of `provision ami bake` contains into the system below ROOT. Changes only files, so
# ROOT may be / on a running machine, or the folder of a system that has not booted. May be repeated.
#
#   sh prepare.sh ROOT [agent-SHA256.zip]
set -eu
[ $# -ge 1 ] || { echo "usage: prepare.sh ROOT [AGENT]" >&2; exit 64; }
root=${1%/}
here=$(dirname "$0")
units=$root/etc/systemd/system

# Mask the units that would slow down the boot, or change the machine while a job runs.
mkdir -p "$units"
while read -r unit; do
    ln -sfn /dev/null "$units/$unit"
done <"$here/masked"

cp -R "$here/tree/." "$root/"
mkdir -p "$units/sysinit.target.wants"
ln -sfn ../provision-boot-fuse.service "$units/sysinit.target.wants/provision-boot-fuse.service"

if [ $# -ge 2 ]; then
    name=$(basename "$2")
    sha256=${name#agent-}
    echo "${sha256%.zip}  $2" | sha256sum -c >/dev/null || {
        echo "the SHA-256 of $2 differs from the one in its name" >&2
        exit 1
    }
    mkdir -p "$root/opt/provision"
    rm -f "$root"/opt/provision/agent-*.zip
    cp "$2" "$root/opt/provision/$name"
    chmod 644 "$root/opt/provision/$name"
    echo "the agent is at /opt/provision/$name"
fi
