"""The caller of a request, identified only by the token in its Authorization header."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Path, Query, Request

from provisioner.core.access.callers import Caller
from provisioner.core.errors import Denied, Invalid
from provisioner.faces.api.http.metrics import Meters
from provisioner.faces.api.http.reading import Readers
from provisioner.faces.api.http.stream import Hub
from provisioner.ports.ids import Ids
from provisioner.ports.journal import Journal
from provisioner.service.control import OnBehalf, Service

#: The Authorization schemes that Saturn's clients use: Bearer (RFC 6750), and Saturn's own `token`.
SCHEMES = ("bearer", "token")

#: Maximum number of uploads at the same time; each has up to 30 MiB in memory.
UPLOADS = 4


@dataclass(frozen=True)
class Server:
    """Objects that the endpoints use."""

    service: Service
    journal: Journal
    ids: Ids
    hub: Hub
    meters: Meters
    #: Whether a proxy in front of the server writes the client's address into X-Forwarded-For.
    behind_proxy: bool = False
    readers: Readers = field(default_factory=Readers)
    #: Uploads take minutes, and would keep other requests from the threads of `readers`.
    uploaders: Readers = field(default_factory=lambda: Readers(UPLOADS))


def server_of(request: Request) -> Server:
    found = request.app.state.server
    assert isinstance(found, Server), "make() puts it there"
    return found


def source_of(request: Request) -> str:
    """Return the client's address; behind a proxy, the last hop of X-Forwarded-For."""
    if server_of(request).behind_proxy:
        hops = request.headers.getlist("x-forwarded-for")
        # The proxy wrote only the last hop; the client may have sent the hops before it.
        if hops and (last := without_port(hops[-1].rpartition(",")[2].strip())):
            return last
    return request.client.host if request.client else "unknown"


def without_port(hop: str) -> str:
    """Return the address of a hop without the port, which some proxies add and which differs for each connection."""
    address = hop[1:].partition("]")[0] if hop.startswith("[") else hop
    if address.count(":") == 1:
        address = address.partition(":")[0]
    return address.strip()[:64]


async def calling(request: Request) -> Caller:
    """Return the caller that the token identifies; raises Denied and TooMany."""
    token = token_of(request)
    if not token:
        raise Denied(
            "the Authorization header has no token: send `Authorization: Bearer <token>`; "
            "create one with `provision token create`"
        )
    return server_of(request).service.gate.admit(token, source_of(request))


Calling = Annotated[Caller, Depends(calling)]


def token_of(request: Request) -> str:
    """Return the token of the request's Authorization header, or ""."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() in SCHEMES else ""


async def control_for(request: Request) -> OnBehalf:
    return server_of(request).service.on_behalf(await calling(request))


#: The use cases, limited to what the caller may access.
Acting = Annotated[OnBehalf, Depends(control_for)]
Serving = Annotated[Server, Depends(server_of)]

JobName = Annotated[
    str, Path(max_length=200, description="The job's id, or its name (see `owner_name`).", examples=["gpu-inference"])
]
OwnerName = Annotated[
    str, Query(max_length=200, description="The owner of a job given by name. Default: the caller's first owner.")
]
RunName = Annotated[
    str, Path(max_length=64, description="The run's id, or the beginning of its id.", examples=["1f9cb11a918f"])
]


def named(job: str, owner: str) -> str:
    """Return the job's name or id, with `owner/` before it if one is given. Raises Invalid for a name with a slash."""
    if "/" in job:
        raise Invalid(f"job: {job!r} contains a slash; pass the owner as owner_name")
    return f"{owner}/{job}" if owner else job
