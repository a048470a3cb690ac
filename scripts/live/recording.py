"""Keep each answer of AWS in a file, and answer the same calls from these files later.

A file has the name `NUMBER-SERVICE-OPERATION.json` and holds an `Exchange`. Answers are found again by check, service
and operation, in their order; parameters are kept for readers only, because a later version may ask in other words.
"""

import base64
import hashlib
import io
import json
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.endpoint import convert_to_response_dict
from botocore.parsers import create_parser
from botocore.response import StreamingBody

from provisioner.adapters import aws

#: Key under which botocore carries a call's parameters from its first event to its last.
_PARAMETERS = "provision_parameters"


@dataclass(frozen=True)
class Exchange:
    """One call, and the answer as it came."""

    check: str
    service: str
    operation: str
    parameters: Any
    status: int
    headers: Mapping[str, str]
    #: The body in base64, because it may be any bytes.
    body: str


class Recorder(aws.Session):
    """Clients whose answers are written to a folder."""

    def __init__(self, folder: Path, region: str, endpoint: str | None = None) -> None:
        super().__init__(region, endpoint)
        self._folder, self._count = folder, 0
        #: The name of the check that calls now.
        self.check = ""

    def _made(self, service: str, region: str, read_timeout: float) -> Any:
        client = super()._made(service, region, read_timeout)
        client.meta.events.register_last("before-parameter-build", _remember)
        client.meta.events.register_first("after-call", self._keep)
        return client

    def _keep(self, http_response: AWSResponse, parsed: dict[str, Any], model: Any, context: Any, **_: Any) -> None:
        if model.has_streaming_output and "Body" in parsed:
            body = parsed["Body"].read()
            parsed["Body"] = StreamingBody(io.BytesIO(body), len(body))
        else:
            body = http_response.content
        self._count += 1
        exchange = Exchange(
            self.check,
            model.service_model.service_name,
            model.name,
            _plain(context.get(_PARAMETERS, {})),
            http_response.status_code,
            {name.lower(): value for name, value in http_response.headers.items()},
            base64.b64encode(body).decode(),
        )
        name = f"{self._count:03}-{exchange.service}-{exchange.operation}.json"
        (self._folder / name).write_text(json.dumps(asdict(exchange), indent=1) + "\n")


class Player(aws.Session):
    """Clients that are answered from a folder, and reach no server."""

    def __init__(self, folder: Path, region: str) -> None:
        super().__init__(region)
        self._answers: defaultdict[tuple[str, str, str], deque[Exchange]] = defaultdict(deque)
        for exchange in recorded(folder):
            self._answers[exchange.check, exchange.service, exchange.operation].append(exchange)
        self.check = ""

    def _made(self, service: str, region: str, read_timeout: float) -> Any:
        # Calls are signed before they are answered here, so the keys are never sent.
        self._session = self._session or boto3.session.Session("replay", "replay", region_name=self.region)
        client = super()._made(service, region, read_timeout)
        client.meta.events.register("before-call", self._answer)
        return client

    def _answer(self, model: Any, **_: Any) -> tuple[AWSResponse, Any]:
        service = model.service_model
        waiting = self._answers[self.check, service.service_name, model.name]
        if not waiting:
            raise LookupError(f"{self.check}: the folder has no further answer to {model.name}: make it anew")
        exchange = waiting.popleft()
        raw = _Raw(base64.b64decode(exchange.body))
        answer = AWSResponse("", exchange.status, HTTPHeaders.from_dict(exchange.headers), raw)
        parser = create_parser(service.resolved_protocol)
        return answer, parser.parse(convert_to_response_dict(answer, model), model.output_shape)


class _Raw(io.BytesIO):
    """A body in the form of urllib3's response."""

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        while block := self.read(1 << 20):
            yield block


def recorded(folder: Path) -> Iterator[Exchange]:
    """Return the exchanges of a folder, in their order."""
    for path in sorted(folder.glob("[0-9]*.json")):
        yield Exchange(**json.loads(path.read_text()))


def _remember(params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
    context[_PARAMETERS] = dict(params)


def _plain(value: Any) -> Any:
    """Return the value in JSON's types; bytes and long texts become their length and SHA-256."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, str) and len(value) > 1000:
        value = value.encode()
    if isinstance(value, bytes | bytearray):
        return {"length": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    return value if isinstance(value, bool | int | float | str | None) else str(value)
