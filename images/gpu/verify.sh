#!/bin/sh
# Checks that this machine's AMI has the programs that a machine needs. Installs nothing: AWS installs these programs,
# above all the driver, and keeps their versions compatible.
set -u
missing=

need() { # WHAT COMMAND...
    what=$1
    shift
    if said=$("$@" 2>&1); then
        echo "$what: $(echo "$said" | head -n 1)"
    else
        echo "$what: MISSING ($(echo "$said" | head -n 1))"
        missing="$missing${missing:+, }$what"
    fi
}

want() { # WHAT CONSEQUENCE COMMAND...
    what=$1 consequence=$2
    shift 2
    if said=$("$@" 2>&1); then
        echo "$what: $(echo "$said" | head -n 1)"
    else
        echo "$what: missing; $consequence"
    fi
}

newest_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && "$name" --version && return
    done
    return 1
}

need "systemd" systemctl --version
need "cloud-init" cloud-init --version
need "Docker" docker version --format '{{.Server.Version}}'
need "NVIDIA driver" modinfo --field version nvidia
need "NVIDIA container toolkit" nvidia-ctk --version
need "git" git --version
need "Python of at least 3.10" newest_python
want "git-lfs" "runs whose repository has files in git LFS are refused" git lfs version

if [ -n "$missing" ]; then
    echo "this AMI lacks: $missing. Use AWS's Deep Learning Base AMI, which has all of them"
    exit 1
fi
