"""Make the user-data of a machine: it arms the boot fuse, then starts the agent.

The text is the same for all machines of a template and contains no secret. It has two POSIX shell scripts and
settings for cloud-init, in cloud-init's MIME form (cloud-init documentation, "User-data formats"). The scripts
call commands by name, so that PATH alone selects them; in a rehearsal, PROVISION_ROOT is the machine's folder.
"""

from __future__ import annotations

import json
import re
import shlex
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

from provisioner.core.cloud import host_keys
from provisioner.core.cloud.partitions import partition
from provisioner.core.errors import Invalid
from provisioner.core.protocol.keys import agent_key

#: EC2's limit, before base64 (EC2 User Guide, "Run commands when you launch an EC2 instance").
SIZE_LIMIT = 16 * 1024

#: Runs early on every boot. systemd cannot answer a call that waits for the unit yet: therefore --no-block.
BOOTHOOK = """#!/bin/sh
home="${PROVISION_ROOT:-}/var/lib/provision"
mkdir -p "$home"
cat >"$home/fuse.sh" <<'FUSE'
# Powers this machine off at the time in the file "fuse", whatever else happens.
home=$1
while now=$(date +%s); do
    read -r end <"$home/fuse"
    case $end in '' | *[!0-9]*) end=$last ;; esac
    last=$end
    left=$((end - now))
    [ "$left" -gt 0 ] || break
    [ "$left" -lt 5 ] || left=5
    sleep "$left"
done
echo "provision: the fuse has expired"
poweroff
sleep 60
poweroff -ff
FUSE
[ -s "$home/fuse" ] || echo $(($(date +%s) + @boot_fuse@)) >"$home/fuse"
systemd-run --no-block --unit=provision-fuse --property=DefaultDependencies=no \\
    --property=StandardOutput=journal+console sh "$home/fuse.sh" "$home"
"""

SCRIPT = """#!/bin/sh
root=${PROVISION_ROOT:-}
home=$root/var/lib/provision
units=$root/etc/systemd/system
sha256=@sha256@
baked=$root/opt/provision/agent-$sha256.zip
zip=$home/agent.zip
endpoint=@endpoint@
[ -z "$endpoint" ] || export AWS_ENDPOINT_URL="$endpoint"
export PROVISION_DOMAIN=@domain@
umask 022
mkdir -p "$home" "$units"

# The control plane reads this line from the console of a machine that never reported.
give_up() {
    echo "provision: powering off: $1"
    poweroff
    exit 1
}

# A change of packages reloads the units, and jobs may lose their GPUs. The units may not exist.
systemctl mask --now --no-block apt-daily.timer apt-daily.service apt-daily-upgrade.timer \\
    apt-daily-upgrade.service unattended-upgrades.service >/dev/null 2>&1

# The system's python3 may be too old while a newer one stands beside it.
python=
for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        python=$(command -v "$name")
        break
    fi
done
[ -n "$python" ] || give_up "no Python of at least 3.10 on this machine"

cat >"$home/fetch.py" <<'FETCH'
@fetch@
FETCH
printf %s @settings@ >"$home/settings.json"

if [ -f "$baked" ] && echo "$sha256  $baked" | sha256sum -c >/dev/null 2>&1; then
    zip=$baked
else
    trouble=$("$python" "$home/fetch.py" @bucket@ @key@ @region@ "$sha256" "$zip" 2>&1) ||
        give_up "the agent cannot be fetched: $trouble"
fi
rm -rf "$home/agent"
"$python" -m zipfile -e "$zip" "$home/agent" || give_up "the agent cannot be unpacked"

# An agent that dies is started once more, and takes over. A unit with Restart= has failed only when its
# start limit is reached, so its second death powers off (systemd.service(5)). KillMode=mixed: the children
# of a dead agent get no SIGTERM, because `docker start --attach` would forward it to the job.
cat >"$units/provision-agent.service" <<UNIT
[Unit]
Description=Agent of provisioner
Wants=network-online.target
After=network-online.target docker.service dlami-nvme.service nvidia-fabricmanager.service nvidia-cdi-refresh.service
OnFailure=provision-poweroff.service
StartLimitIntervalSec=infinity
StartLimitBurst=2

[Service]
Restart=on-failure
KillMode=mixed
Environment="HOME=$root/root"
Environment="PROVISION_ROOT=$root"
Environment="AWS_ENDPOINT_URL=${AWS_ENDPOINT_URL:-}"
Environment="PROVISION_DOMAIN=$PROVISION_DOMAIN"
ExecStart="$python" "$home/agent"
StandardOutput=journal+console
StandardError=journal+console

[Install]
WantedBy=multi-user.target
UNIT
cat >"$units/provision-poweroff.service" <<UNIT
[Unit]
Description=End of a machine whose agent failed

[Service]
Type=oneshot
ExecStart=systemctl poweroff
UNIT
# Enabling reloads all units, the new ones too.
systemctl enable --now --no-block provision-agent.service || give_up "the agent cannot be started"
"""

#: Prints the host keys in the form of cloud-init's module, because some machine images do not run that module.
HOST_KEYS = """#!/bin/sh
if keys=$(cat "${PROVISION_ROOT:-}"/etc/ssh/ssh_host_*_key.pub 2>/dev/null); then
    echo "@begin@"
    echo "$keys"
    echo "@end@"
else
    echo "provision: powering off: this machine has no SSH host keys, so SSH is impossible"
    poweroff
fi
"""

#: One host key is enough, and generating the others takes a second. cloud-init 22 reports a fault in user-data without
#: a cloud-config part.
CONFIG = """#cloud-config
ssh_genkeytypes: [ed25519]
"""

PATTERNS = {
    "bucket": r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
    "prefix": r"[A-Za-z0-9._=/-]*",
    "region": r"[a-z]{2}(-[a-z]+)+-[0-9]+",
    "role id": r"[A-Za-z0-9]+",
    "agent's sha256": r"[0-9a-f]{64}",
    "endpoint": r"(https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._/-]*)?)?",
}


def user_data(
    bucket: str,
    prefix: str,
    region: str,
    role_id: str,
    agent_sha256: str,
    fetch_source: str,
    boot_fuse: int = 1200,
    endpoint: str = "",
) -> str:
    """Return the MIME text that starts the agent whose archive has that SHA-256; `boot_fuse` is in seconds.

    Raises Invalid for a value in the wrong form, and for a text longer than EC2's 16 KB.
    """
    values = (bucket, prefix, region, role_id, agent_sha256, endpoint)
    for (name, pattern), value in zip(PATTERNS.items(), values, strict=True):
        if not re.fullmatch(pattern, value, re.ASCII):
            raise Invalid(f"invalid {name} {value!r}: expected {pattern}")
    if boot_fuse <= 0:
        raise Invalid(f"invalid boot fuse of {boot_fuse} s: expected more than 0 s")
    folder = prefix.strip("/") + "/" if prefix.strip("/") else ""
    settings = {
        "bucket": bucket,
        "prefix": folder,
        "region": region,
        "role_id": role_id,
    }
    script = _filled(
        SCRIPT,
        sha256=shlex.quote(agent_sha256),
        endpoint=shlex.quote(endpoint),
        domain=shlex.quote(partition(region).domain),
        settings=shlex.quote(json.dumps(settings, sort_keys=True)),
        bucket=shlex.quote(bucket),
        key=shlex.quote(folder + agent_key(agent_sha256)),
        region=shlex.quote(region),
        fetch=fetch_source.rstrip("\n"),
    )
    # The boundary is fixed: equal arguments must give equal bytes, because a template's name is a hash of them.
    whole = MIMEMultipart(boundary="==provision==")
    whole.attach(_part(_filled(BOOTHOOK, boot_fuse=str(int(boot_fuse))), "cloud-boothook"))
    whole.attach(_part(CONFIG, "cloud-config"))
    whole.attach(_part(script, "x-shellscript"))
    text = whole.as_string()
    if len(text) > SIZE_LIMIT:
        raise Invalid(f"the user-data has {len(text)} bytes; EC2 accepts at most {SIZE_LIMIT}")
    return text


def builder_data(public_key: str, fuse: int) -> str:
    """Return the user-data, as MIME text, of a machine from which an AMI is made; `fuse` is in seconds.

    The SSH key `public_key` may log in. The machine prints its host keys on the console, so that the SSH client can
    verify them.
    """
    config = "#cloud-config\n" + json.dumps({"ssh_authorized_keys": [public_key]}) + "\n"
    script = _filled(HOST_KEYS, begin=host_keys.BEGIN, end=host_keys.END)
    whole = MIMEMultipart(boundary="==provision==")
    whole.attach(_part(_filled(BOOTHOOK, boot_fuse=str(fuse)), "cloud-boothook"))
    whole.attach(_part(config, "cloud-config"))
    whole.attach(_part(script, "x-shellscript"))
    return whole.as_string()


def _filled(template: str, **values: str) -> str:
    return re.sub("@([a-z_0-9]+)@", lambda match: values[match[1]], template)


def _part(text: str, subtype: str) -> MIMEText:
    try:
        return MIMEText(text, subtype, "us-ascii")
    except UnicodeEncodeError as error:
        raise Invalid(f"user-data must be ASCII: {error}") from error
