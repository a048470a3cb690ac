"""Serve the double's AWS API over HTTP on this computer, with one port for all services.

For each request the server checks the signature, reads and logs the call, and evaluates the policies. Then the model or
moto answers. A fault rule may fail or delay the call, or lose its answer. A call that neither the model nor moto
implements is answered with NotImplemented (501) and kept in `calls.unimplemented`: no call is ignored silently.
"""

import contextlib
import functools
import http
import io
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

from provisioner.core.cloud.partitions import partition
from provisioner.core.cloud.quotas import quota_with
from provisioner.rehearsal.aws import wire
from provisioner.rehearsal.aws.account import ID, IMAGE_PARAMETERS, Account
from provisioner.rehearsal.aws.actions import ASKS
from provisioner.rehearsal.aws.calls import ADMINISTRATOR, CONTROL, Call, Calls, NotPlayed
from provisioner.rehearsal.aws.faults import Effect, Faults, Rule, When
from provisioner.rehearsal.aws.refused import Refused
from provisioner.rehearsal.aws.rights import Rights, arn
from provisioner.rehearsal.aws.signatures import Caller, Identities, service_of
from provisioner.rehearsal.aws.simulation import simulated
from provisioner.rehearsal.aws.stacks.api import CloudFormation
from provisioner.rehearsal.aws.stacks.services import Services
from provisioner.rehearsal.aws.wire import Answer, Request
from provisioner.rehearsal.ec2.api import Ec2

#: Parameters that name the resource of a call outside S3; the first one that the call has is used.
_NAMES = (
    *("InstanceId", "ImageId", "SnapshotId", "LaunchTemplateName", "ClientToken", "Name", "SecretId"),
    *("InstanceProfileName", "GroupName"),
)


class _Broken(Exception):
    """Raised to break the connection without an answer."""


def _handler(now: Callable[[], float]) -> type[MotoRequestHandler]:
    class Handler(MotoRequestHandler):
        def log(self, *said: Any) -> None:
            """Log nothing: the double keeps its own log of calls."""

        def date_time_string(self, timestamp: float | None = None) -> str:
            """Return the Date header from the double's clock; the reaper uses this header as the cloud's clock."""
            return formatdate(now() if timestamp is None else timestamp, usegmt=True)

    return Handler


class Server:
    """An HTTP server that runs from `start` to `close`, on 127.0.0.1 only."""

    def __init__(
        self,
        account: Account,
        ec2: Ec2,
        products: Callable[[Mapping[str, Any]], list[str]],
        identities: Identities,
        rights: Rights,
        *,
        calls: Calls,
        faults: Faults,
        now: Callable[[], float],
        port: int = 0,
    ) -> None:
        """`products` gets the parameters of GetProducts (Price List API), and returns a JSON text for each product."""
        self._account, self._ec2, self._identities, self._rights = account, ec2, identities, rights
        self._products = products
        #: By principal.
        self._services: dict[str, Services] = {}
        self._stacks = CloudFormation(partition(account.region).name, now)
        self._calls, self._faults, self._now = calls, faults, now
        #: Moto's app by service, cached: moto's own dispatcher searches its folders at each request.
        self._moto: Callable[[str], Any] = functools.cache(create_backend_app)
        self._closing = threading.Event()
        # Without this socket, Werkzeug would exit the process if the port is in use, and queue too few connections.
        with socket.create_server(("127.0.0.1", port), backlog=512) as listening:
            self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            self._server: BaseWSGIServer = make_server(
                "127.0.0.1", port, self._respond, threaded=True, request_handler=_handler(now), fd=listening.fileno()
            )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True, name="double-http"
        )

    def start(self) -> None:
        self._thread.start()

    @property
    def failures(self) -> list[Exception]:
        """The errors of the double itself in operations on stacks."""
        return self._stacks.failures

    def close(self) -> None:
        self._closing.set()
        # An operation on a stack makes calls to this server.
        self._stacks.close()
        for services in self._services.values():
            services.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # WSGI

    def _respond(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        request = _request(environ)
        try:
            answer = self._answer(environ, request)
        except _Broken:
            _reset(environ["werkzeug.socket"])
            # Werkzeug treats this error as a client that disconnected, and writes no answer.
            raise ConnectionResetError("connection reset by a fault rule of the EC2 double") from None
        headers = [(name, value) for name, value in answer.headers if name.lower() not in ("date", "connection")]
        if not any(name.lower() == "content-length" for name, _ in headers):
            headers.append(("Content-Length", str(len(answer.body))))
        start(f"{answer.status} {http.HTTPStatus(answer.status).phrase}", headers)
        return [b"" if request.method == "HEAD" else answer.body]

    def _answer(self, environ: dict[str, Any], request: Request) -> Answer:
        service = service_of(request)
        try:
            caller = self._identities.caller(request)
            call = self._read(caller, request)
            if caller.principal == CONTROL and self._ec2.lapsed():
                raise _expired(service)
            rule = self._faults.on(call)
            if rule and rule.when is When.BEFORE and (spoilt := self._spoil(rule, call)):
                return spoilt
            try:
                answer = self._allowed(environ, request, caller, call)
            except Refused as refused:
                answer = wire.error(service, refused)
            if rule and rule.when is When.AFTER and (spoilt := self._spoil(rule, call)):
                return spoilt
            return answer
        except Refused as refused:
            return wire.error(service, refused)
        except _Broken:
            raise
        except Exception as error:  # noqa: BLE001 - a gap or a bug in the double must not look like AWS
            hole = str(error) if isinstance(error, NotPlayed) else repr(error)
            self._calls.unimplemented.append(f"{service}: {hole}")
            return wire.error(service, Refused("NotImplemented", f"the EC2 double cannot answer: {hole}", 501))

    def _allowed(self, environ: dict[str, Any], request: Request, caller: Caller, call: Call) -> Answer:
        self._rights.weigh(caller, call, self._ec2.resources, deleted=lambda: wire.deleted_keys(request))
        answer = self._do(environ, request, caller, call)
        if answer.status == 404 and call.service == "s3" and not self._rights.may_list(caller, call):
            # S3 answers 403 for a missing key if the caller may not ListBucket (Amazon S3 API, GetObject).
            raise Refused("AccessDenied", "Access Denied", 403)
        return answer

    def _read(self, caller: Caller, request: Request) -> Call:
        action, said = wire.read(caller.service, request)
        if caller.service == "s3":
            resource = f"{said['Bucket']}/{said['Key']}".rstrip("/")
        else:
            names = [said[name] for name in _NAMES if isinstance(said.get(name), str)]
            resource = ",".join(said.get("InstanceIds") or names[:1])
        call = Call(caller.service, action, said, caller.principal, resource, self._now())
        self._calls.note(call)
        if (call.service, call.action) not in ASKS:
            raise NotPlayed(f"{call.service}:{call.action}")
        return call

    def _do(self, environ: dict[str, Any], request: Request, caller: Caller, call: Call) -> Answer:
        if call.service == "cloudformation":
            return self._stack_call(caller, call)
        if call.action == "CreateServiceLinkedRole":
            return wire.write_query(
                "iam", call.action, self._account.add_service_role(call.parameters["AWSServiceName"])
            )
        if call.service == "ec2" and call.parameters.get("DryRun"):
            # The call is allowed (EC2 API Reference, "Common query parameters"). Assumed: EC2 checks nothing else.
            raise Refused("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
        if call.service == "ec2" and call.action in self._ec2.calls:
            return wire.write("ec2", call.action, self._ec2.answer(call))
        if call.action == "GetParameter" and (name := call.parameters.get("Name")) in IMAGE_PARAMETERS:
            parameter = {"Name": name, "Type": "String", "Value": self._account.image_id, "Version": 1}
            return wire.write_json({"Parameter": parameter})
        if call.action == "GetServiceQuota":
            code = call.parameters["QuotaCode"]
            known = quota_with(code)
            quota = {
                "ServiceCode": "ec2",
                "QuotaCode": code,
                "QuotaName": known.name if known else code,
                "Value": float(self._ec2.quota(code, self._account.instance_types)),
            }
            return wire.write_json({"Quota": quota})
        if call.action == "GetCallerIdentity" and call.principal != ADMINISTRATOR:
            # Moto's answer does not name the role.
            said = {"UserId": call.principal, "Account": ID, "Arn": arn(call.principal)}
            return wire.write_query("sts", call.action, said)
        if call.action == "DecodeAuthorizationMessage":
            return wire.write_query(
                "sts", call.action, {"DecodedMessage": self._rights.decoded(call.parameters["EncodedMessage"])}
            )
        if call.action == "SimulatePrincipalPolicy":
            return wire.write_query("iam", call.action, simulated(call.parameters, self._account.policies_of))
        if call.action == "GetEbsDefaultKmsKeyId":
            return wire.write("ec2", call.action, {"KmsKeyId": self._account.disk_key})
        if call.action == "GetProducts":
            return wire.write_json({"FormatVersion": "aws_v1", "PriceList": self._products(call.parameters)})
        answer = self._ask_moto(environ, request, call)
        if call.action in ("CreateSubnet", "DeleteSubnet"):
            self._account.note_subnets()
        return answer

    def _stack_call(self, caller: Caller, call: Call) -> Answer:
        services = self._services.get(caller.principal)
        if services is None:
            # boto3 takes long to make a client, so each caller's are kept.
            login = self._identities.login(caller.principal)
            services = self._services.setdefault(caller.principal, Services(self.url, caller.region, login))
        return wire.write_query("cloudformation", call.action, self._stacks.answer(call, services))

    def _ask_moto(self, environ: dict[str, Any], request: Request, call: Call) -> Answer:
        inner = {name: value for name, value in environ.items() if name != "HTTP_TRANSFER_ENCODING"}
        inner |= {"wsgi.input": io.BytesIO(request.body), "CONTENT_LENGTH": str(len(request.body))}
        head: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], None]:
            head[:] = [int(status.split()[0]), headers]
            return lambda _: None

        body = self._moto(call.service)(inner, start)
        try:
            data = b"".join(body)
        finally:
            with contextlib.suppress(AttributeError):
                body.close()
        status, headers = head
        if status >= 500 and b"<html" in data[:200].lower():
            raise NotPlayed(str(call))
        return Answer(status, tuple(headers), data)

    def _spoil(self, rule: Rule, call: Call) -> Answer | None:
        """Apply the rule. Return the answer to send instead of the real one, or None for no change."""
        if rule.effect is Effect.ERROR:
            raise Refused(rule.code, rule.message, rule.status)
        if rule.effect in (Effect.DELAY, Effect.HANG):
            self._closing.wait(rule.seconds)
        if rule.effect in (Effect.RESET, Effect.HANG):
            raise _Broken
        return wire.empty(call.service, call.action) if rule.effect is Effect.EMPTY else None


def _expired(service: str) -> Refused:
    """Return the service's error for a session that has expired, as reports about boto3 and the AWS CLI quote it."""
    match service:
        case "ec2":
            return Refused("RequestExpired", "Request has expired.", 400)
        case "s3":
            return Refused("ExpiredToken", "The provided token has expired.", 400)
        case "iam" | "sts" | "cloudformation":
            return Refused("ExpiredToken", "The security token included in the request is expired", 403)
        case _:
            return Refused("ExpiredTokenException", "The security token included in the request is expired", 400)


def _request(environ: Mapping[str, Any]) -> Request:
    stream = environ["wsgi.input"]
    chunked = environ.get("HTTP_TRANSFER_ENCODING") == "chunked"
    body = stream.read() if chunked else stream.read(int(environ.get("CONTENT_LENGTH") or 0))
    headers = {name[5:].replace("_", "-").lower(): str(value) for name, value in environ.items() if name[:5] == "HTTP_"}
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers[name.replace("_", "-").lower()] = environ[name]
    return Request(environ["REQUEST_METHOD"], environ["REQUEST_URI"], headers, body)


def _reset(connection: socket.socket) -> None:
    """Close the connection with a TCP reset instead of an end of file."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
