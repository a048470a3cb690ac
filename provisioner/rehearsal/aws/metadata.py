"""Serve the metadata (IMDSv2) of all machines on one port of this computer, or of one machine on its own port."""

import json
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from provisioner.core.cloud.partitions import partition
from provisioner.rehearsal.machines.host import Guest

ACCOUNT = "123456789012"

#: A node of the metadata: a folder of nodes by name, a text, or a function that returns the text on each read.
Node = Mapping[str, "Node"] | Callable[[], str] | str


@dataclass(frozen=True)
class Credentials:
    """A role's temporary keys, or permanent keys with an empty `token`; `expires_at` is in Unix seconds."""

    access_key: str
    secret_key: str
    token: str
    expires_at: float


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    #: Hundreds of machines may boot in the same second.
    request_queue_size = 512

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="metadata", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A machine whose power is cut breaks its connections: that is no error of this server.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@dataclass
class _Known:
    guest: Guest
    tokens: set[str] = field(default_factory=set)
    #: When EC2 reclaims the machine, in Unix seconds; None before the spot notice.
    notice: float | None = None
    #: When the rebalance recommendation was published, in Unix seconds; at the latest, together with the notice.
    rebalance: float | None = None


class Metadata:
    """The metadata service. Each machine has its own base path; an unknown machine is answered with 404."""

    def __init__(self, credentials: Callable[[str], Credentials], role: str) -> None:
        self._credentials = credentials
        self._role = role
        self._known: dict[str, _Known] = {}
        self._server = _Server(self._handler())
        self._own: dict[str, _Server] = {}

    def start(self) -> None:
        self._server.start()

    def close(self) -> None:
        self._server.close()
        for instance_id in list(self._own):
            self.remove(instance_id)

    def listen(self, instance_id: str) -> int:
        """Open a port that answers this machine only, without the base path, until `remove`; return its number."""
        server = self._own[instance_id] = _Server(self._handler(f"/{instance_id}"))
        server.start()
        return int(server.server_address[1])

    def url(self, instance_id: str) -> str:
        """Return the base URL for the machine's AWS_EC2_METADATA_SERVICE_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{instance_id}"

    def add(self, guest: Guest) -> None:
        self._known[guest.instance_id] = _Known(guest)

    def remove(self, instance_id: str) -> None:
        self._known.pop(instance_id, None)
        if server := self._own.pop(instance_id, None):
            server.close()

    def announce(self, instance_id: str, at: float) -> None:
        """Publish a notice that EC2 reclaims the spot machine at `at`, Unix seconds, and a rebalance recommendation."""
        if known := self._known.get(instance_id):
            known.notice = at
            self.recommend(instance_id)

    def recommend(self, instance_id: str) -> None:
        """Publish a rebalance recommendation to the machine, unless it already has one."""
        known = self._known.get(instance_id)
        if known and known.rebalance is None:
            known.rebalance = time.time()

    def _answer(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        instance_id, _, rest = path.split("?")[0].lstrip("/").partition("/")
        known = self._known.get(instance_id)
        _version, _, rest = rest.partition("/")
        if known is None:
            return 404, ""
        if method == "PUT":
            return self._token(known, rest, headers)
        if headers.get("x-aws-ec2-metadata-token") not in known.tokens:
            return 401, ""
        node: Node | None = self._tree(known)
        for name in filter(None, rest.split("/")):
            node = node.get(name) if isinstance(node, Mapping) else None
        if node is None:
            return 404, ""
        if isinstance(node, Mapping):
            return 200, "\n".join(f"{name}/" if isinstance(below, Mapping) else name for name, below in node.items())
        return 200, node if isinstance(node, str) else node()

    def _token(self, known: _Known, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        if path != "api/token":
            return 404, ""
        if not headers.get("x-aws-ec2-metadata-token-ttl-seconds", "").isdigit():
            return 400, ""
        token = secrets.token_urlsafe(32)
        known.tokens.add(token)
        return 200, token

    def _tree(self, known: _Known) -> Node:
        guest = known.guest
        name = f"ip-{guest.address.replace('.', '-')}.ec2.internal"
        interface = {
            "device-number": "0",
            "interface-id": f"eni-{guest.instance_id.removeprefix('i-')}",
            "local-hostname": name,
            "local-ipv4s": guest.address,
            "mac": guest.mac,
            "owner-id": ACCOUNT,
            "security-groups": "default",
        }
        about: dict[str, Node] = {
            "ami-id": guest.image_id,
            "ami-launch-index": "0",
            "hostname": name,
            "iam": {"security-credentials": {self._role: lambda: self._role_credentials(guest.instance_id)}},
            "instance-id": guest.instance_id,
            "instance-life-cycle": guest.market,
            "instance-type": guest.instance_type,
            "local-hostname": name,
            "local-ipv4": guest.address,
            "mac": guest.mac,
            "network": {"interfaces": {"macs": {guest.mac: interface}}},
            "placement": {"availability-zone": guest.zone, "region": guest.region},
            "security-groups": "default",
            "services": {"domain": partition(guest.region).domain, "partition": partition(guest.region).name},
        }
        if known.notice is not None:
            about["spot"] = {"instance-action": json.dumps({"action": "terminate", "time": _iso(known.notice)})}
        if known.rebalance is not None:
            about["events"] = {"recommendations": {"rebalance": json.dumps({"noticeTime": _iso(known.rebalance)})}}
        document = {
            "accountId": ACCOUNT,
            "architecture": "x86_64",
            "availabilityZone": guest.zone,
            "imageId": guest.image_id,
            "instanceId": guest.instance_id,
            "instanceType": guest.instance_type,
            "pendingTime": _iso(guest.launch_time),
            "privateIp": guest.address,
            "region": guest.region,
            "version": "2017-09-30",
        }
        return {
            "meta-data": about,
            "dynamic": {"instance-identity": {"document": json.dumps(document)}},
            "user-data": guest.user_data,
        }

    def _role_credentials(self, instance_id: str) -> str:
        own = self._credentials(instance_id)
        return json.dumps(
            {
                "Code": "Success",
                "Type": "AWS-HMAC",
                "LastUpdated": _iso(time.time()),
                "AccessKeyId": own.access_key,
                "SecretAccessKey": own.secret_key,
                "Token": own.token,
                "Expiration": _iso(own.expires_at),
            }
        )

    def _handler(self, base: str = "") -> type[BaseHTTPRequestHandler]:
        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # With Nagle's algorithm, the body would wait for the acknowledgement of the headers.
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                code, text = answer(
                    self.command,
                    base + self.path,
                    {k.lower(): v for k, v in self.headers.items()},
                )
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = text.encode()
                self.send_response(code)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_PUT = do_GET  # noqa: N815 - the name that http.server looks for

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


def _iso(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
