"""Who calls: the token in the header, and nothing else, says it."""

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

#: Both forms that Saturn's clients use (RFC 6750; `token` is its own).
SCHEMES = ("bearer", "token")


@dataclass(frozen=True)
class Server:
    """What the endpoints work with."""

    service: Service
    journal: Journal
    ids: Ids
    hub: Hub
    meters: Meters
    #: A proxy in front of us says who called it.
    behind_proxy: bool = False
    readers: Readers = field(default_factory=Readers)


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
    """Whoever the token says; raises Denied and TooMany."""
    token = token_of(request)
    if not token:
        raise Denied("a token is needed: `Authorization: Bearer …`; `provision token create` makes one")
    return server_of(request).service.gate.admit(token, source_of(request))


Calling = Annotated[Caller, Depends(calling)]


def token_of(request: Request) -> str:
    """The token that the request shows; empty where it shows none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() in SCHEMES else ""


async def control_for(request: Request) -> OnBehalf:
    return server_of(request).service.on_behalf(await calling(request))


#: The use cases as the caller may have them.
Acting = Annotated[OnBehalf, Depends(control_for)]
Serving = Annotated[Server, Depends(server_of)]

JobName = Annotated[
    str, Path(max_length=200, description="The job's id; or its name, with `owner_name`.", examples=["gpu-inference"])
]
OwnerName = Annotated[
    str, Query(max_length=200, description="Whose job, where `job` is a name. Without it: the caller's own.")
]
RunName = Annotated[
    str, Path(max_length=64, description="The run's id, or the beginning of it.", examples=["1f9cb11a918f"])
]


def named(job: str, owner: str) -> str:
    """The job as the use cases call it."""
    if "/" in job:
        raise Invalid("job: found a slash; write the owner as owner_name")
    return f"{owner}/{job}" if owner else job
