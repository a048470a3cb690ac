"""The server's address, and the token that the client sends to it."""

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from provisioner.core.errors import Invalid


@dataclass(frozen=True)
class Address:
    """A server's address and token, checked by `address`."""

    #: The URL for messages and requests, without a slash at the end.
    url: str
    https: bool
    host: str
    port: int
    token: str = field(repr=False)


def address(url: str, token: str, *, insecure: bool = False) -> Address:
    """Return the server's checked address; `insecure` allows a token in clear text. Raises Invalid."""
    try:
        parts = urlsplit(url)
        where = parts.netloc.rpartition("@")[2]
        if where.count(":") > 1 and "[" not in where:
            raise Invalid(
                f"the server's URL has {where!r}; write an IPv6 address in brackets: https://[2001:db8::1]:8443"
            )
        host, port = parts.hostname, parts.port
        if "]" in where and not re.fullmatch(r"\[[^]]+\](:\d*)?", where):
            raise Invalid(f"the server's URL has {where!r}; write [ADDRESS] or [ADDRESS]:PORT")
    except ValueError as error:
        raise Invalid(f"the server's URL: {error}") from error
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        raise Invalid(
            f"invalid server URL {url!r}: write https://HOST, or http://127.0.0.1:PORT for a server on this computer"
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise Invalid("the server's URL may have only host, port and path; put the token into PROVISION_TOKEN")
    shown = url.rstrip("/")
    if not token:
        raise Invalid(
            f"no token for {shown}: set PROVISION_TOKEN to a token from `provision token create` on the control host"
        )
    if not re.fullmatch("[!-~]{1,1000}", token):
        raise Invalid(
            "invalid PROVISION_TOKEN: expected at most 1000 ASCII characters without spaces; copy the token that "
            "`provision token create` printed"
        )
    if parts.scheme == "http" and not insecure and not is_loopback(host):
        raise Invalid(
            f"{shown} would send the token in clear text: write https://, or set PROVISION_INSECURE=1 if you trust the "
            "network"
        )
    https = parts.scheme == "https"
    return Address(shown, https, host, port or (443 if https else 80), token)


def is_loopback(host: str) -> bool:
    """Return whether the host is this computer."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
