#!/bin/sh
# Puts into the system below ROOT what every machine image of ours has. Touches files alone, so it works on a
# running machine (ROOT is /) and on a folder that will become one. Harmless to repeat.
#
#   sh prepare.sh ROOT [agent-SHA256.zip]
set -eu
[ $# -ge 1 ] || { echo "usage: prepare.sh ROOT [AGENT]" >&2; exit 64; }
root=${1%/}
here=$(dirname "$0")
units=$root/etc/systemd/system

# Timers and services that would take a booting machine's time, or change it under a job.
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
    echo "${sha256%.zip}  $2" | sha256sum -c >/dev/null || { echo "$2 is not what its name says" >&2; exit 1; }
    mkdir -p "$root/opt/provision"
    rm -f "$root"/opt/provision/agent-*.zip
    cp "$2" "$root/opt/provision/$name"
    chmod 644 "$root/opt/provision/$name"
    echo "the agent is at /opt/provision/$name"
fi
