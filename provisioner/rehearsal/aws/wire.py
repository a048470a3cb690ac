"""Read and write AWS's protocols according to botocore's description of each service.

EC2 has its own query protocol, S3 uses REST, IAM and STS use the query protocol, and SSM uses JSON. This module writes
only the double's own answers (EC2's from the model, and some in JSON) and its errors; moto writes all other answers.
"""

import functools
import json
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import botocore.model
import botocore.session
import moto.core.parse
from moto.core.utils import get_service_model

from provisioner.rehearsal.aws.refused import Refused


@dataclass(frozen=True)
class Request:
    """An HTTP request with its whole body; names of headers are in lower case."""

    method: str
    #: Path and query as received, percent-encoded.
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@functools.cache
def _service(name: str) -> botocore.model.ServiceModel:
    return botocore.session.get_session().get_service_model(name)


def read(service: str, request: Request) -> tuple[str, dict[str, Any]]:
    """Return the name of the API call and its parameters, named as in boto3."""
    if service == "s3":
        return _read_rest(request)
    if target := request.headers.get("x-amz-target"):
        return target.rsplit(".", 1)[-1], json.loads(request.body or b"{}")
    form = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
    action = form.pop("Action", "")
    if action not in _service(service).operation_names:
        return action, {}
    kind = moto.core.parse.EC2QueryParser if service == "ec2" else moto.core.parse.QueryParser
    # Moto's parser needs moto's own subclass of botocore's OperationModel.
    parser: Any = kind(get_service_model(service).operation_model(action))
    return action, dict(parser.parse({"values": form}))


def _read_rest(request: Request) -> tuple[str, dict[str, Any]]:
    """Return the name and parameters of the S3 call that best fits the request's method, path, query and headers."""
    parts = urlsplit(request.target)
    bucket, _, key = parts.path.lstrip("/").partition("/")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    found = max(
        (weight, name)
        for method, depth, needs, weight, name in _rest_operations()
        if method == request.method
        and depth == bool(bucket) + bool(key)
        and all(word in (query if place == "query" else request.headers) for place, word in needs)
    )
    parameters: dict[str, Any] = dict(query)
    shape = _service("s3").operation_model(found[1]).input_shape
    members = shape.members if isinstance(shape, botocore.model.StructureShape) else {}
    for name, member in members.items():
        where, word = member.serialization.get("location"), member.serialization.get("name", name)
        if where == "header" and word.lower() in request.headers:
            parameters[name] = request.headers[word.lower()]
    return found[1], parameters | {"Bucket": unquote(bucket), "Key": unquote(key)}


@functools.cache
def _rest_operations() -> list[tuple[str, int, tuple[tuple[str, str], ...], int, str]]:
    """Return for each S3 call: method, depth of the path, required query and header names, their number, its name."""
    found = []
    for name in _service("s3").operation_names:
        operation = _service("s3").operation_model(name)
        path, _, fixed = operation.http["requestUri"].partition("?")
        needs = [("query", word.partition("=")[0]) for word in fixed.split("&") if word]
        shape = operation.input_shape
        members = shape.members if isinstance(shape, botocore.model.StructureShape) else {}
        for member in shape.required_members if shape else ():
            said = members[member].serialization
            if said.get("location") == "header":
                needs.append(("header", said["name"].lower()))
            elif said.get("location") == "querystring":
                needs.append(("query", said["name"]))
        depth = ("{Bucket}" in path) + ("{Key+}" in path)
        found.append((operation.http["method"], depth, tuple(needs), len(needs), name))
    return found


def deleted_keys(request: Request) -> list[str]:
    """Return the keys that a DeleteObjects request names."""
    return [item.text or "" for item in ET.fromstring(request.body).iter() if item.tag.rpartition("}")[2] == "Key"]


def write(service: str, action: str, result: Mapping[str, Any]) -> Answer:
    """Return an answer with status 200 in EC2's protocol."""
    model = _service(service)
    root = ET.Element(f"{action}Response", xmlns=model.metadata["xmlNamespace"])
    ET.SubElement(root, "requestId").text = str(uuid.uuid4())
    shape = model.operation_model(action).output_shape
    if shape is not None:
        _structure(root, shape, result)
    return _xml(200, root)


def write_query(service: str, action: str, result: Mapping[str, Any]) -> Answer:
    """Return an answer with status 200 in the query protocol."""
    model = _service(service)
    root = ET.Element(f"{action}Response", xmlns=model.metadata["xmlNamespace"])
    holder = ET.SubElement(root, f"{action}Result")
    shape = model.operation_model(action).output_shape
    if shape is not None:
        _structure(holder, shape, result, items="member")
    return _xml(200, root)


def _structure(parent: ET.Element, shape: Any, value: Mapping[str, Any], items: str = "item") -> None:
    """Write the fields of a structure; `items` is the protocol's name for the elements of lists."""
    for name, item in value.items():
        if item is not None:
            member = shape.members[name]
            _value(ET.SubElement(parent, member.serialization.get("name", name)), member, item, items)


def _value(element: ET.Element, shape: Any, value: Any, items: str) -> None:
    if shape.type_name == "structure":
        _structure(element, shape, value, items)
    elif shape.type_name == "list":
        for item in value:
            _value(ET.SubElement(element, shape.member.serialization.get("name", items)), shape.member, item, items)
    elif shape.type_name == "timestamp":
        # EC2 returns whole seconds.
        element.text = datetime.fromtimestamp(int(value), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    elif shape.type_name == "boolean":
        element.text = "true" if value else "false"
    else:
        element.text = str(value)


def error(service: str, refused: Refused) -> Answer:
    """Return an error in the service's own format."""
    request_id = str(uuid.uuid4())
    if service not in ("ec2", "s3", "iam", "sts", "cloudformation"):
        said = json.dumps({"__type": refused.code, "message": refused.message}).encode()
        return Answer(refused.status, (("Content-Type", "application/x-amz-json-1.1"),), said)
    root = ET.Element({"ec2": "Response", "s3": "Error"}.get(service, "ErrorResponse"))
    holder = ET.SubElement(root, "Errors") if service == "ec2" else root
    holder = holder if service == "s3" else ET.SubElement(holder, "Error")
    for name, text in (("Code", refused.code), ("Message", refused.message)):
        ET.SubElement(holder, name).text = text
    ET.SubElement(root, "RequestID" if service == "ec2" else "RequestId").text = request_id
    return _xml(refused.status, root)


def empty(service: str, action: str) -> Answer:
    """Return an answer with status 200 and without any fields."""
    return _xml(200, ET.Element(f"{action}Response")) if service == "ec2" else Answer(200, (), b"")


def _xml(status: int, root: ET.Element) -> Answer:
    return Answer(status, (("Content-Type", "text/xml"),), ET.tostring(root, encoding="utf-8", xml_declaration=True))


def write_json(result: Mapping[str, Any]) -> Answer:
    """Return an answer with status 200 in AWS's JSON protocol."""
    return Answer(200, (("Content-Type", "application/x-amz-json-1.1"),), json.dumps(result).encode())
