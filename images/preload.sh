#!/bin/sh
# Pulls Docker images with the agent's code and this machine's role, and writes their digests to
# ROOT/opt/provision/preloaded, one per line.
#
#   sh preload.sh ROOT REGION CREDENTIAL IMAGE...      CREDENTIAL: the name of a secret, or empty
set -eu
[ $# -ge 4 ] || { echo "usage: preload.sh ROOT REGION CREDENTIAL IMAGE..." >&2; exit 64; }
root=${1%/}
shift

python=
for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        python=$name
        break
    fi
done
[ -n "$python" ] || { echo "Python 3.10 or later is missing on this machine" >&2; exit 1; }

agent=$(mktemp -d)
trap 'rm -rf "$agent"' EXIT
"$python" -m zipfile -e "$root"/opt/provision/agent-*.zip "$agent"
PYTHONPATH=$agent "$python" -m provisioner.agent.fetch.preload "$root/opt/provision/preloaded" "$@"
