"""The way to the server: straight, or by the proxy that HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY name."""

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from provisioner.adapters.remote.address import Address, is_loopback
from provisioner.core.errors import Invalid

#: What one may do about a proxy's 407.
PASSWORD = "write http://NAME:PASSWORD@HOST:PORT into HTTPS_PROXY or HTTP_PROXY"


@dataclass(frozen=True)
class Proxy:
    #: As it is shown: without a name or password.
    url: str
    #: `name:password`, or empty.
    login: str = field(repr=False)


def proxy(to: Address) -> Proxy | None:
    """The environment's proxy for the server, as curl reads it; none for this computer. Raises Invalid."""
    # A proxy's loopback is another computer's, and the token is in clear text.
    if is_loopback(to.host):
        return None
    # Slow to import, and nothing else needs it.
    from urllib.request import getproxies, proxy_bypass

    known = getproxies()
    named = known.get("https" if to.https else "http") or known.get("all")
    if not named or proxy_bypass(f"{to.host}:{to.port}"):
        return None
    try:
        parts = urlsplit(named if "://" in named else f"http://{named}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https"):
        raise Invalid("the proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names is none: write http://HOST:PORT")
    shown = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username is not None else ""
    return Proxy(shown, login)


def connections(to: Address, by: Proxy | None) -> Any:
    """urllib3's pool for the server; TLS trusts OpenSSL's own places, or SSL_CERT_FILE."""
    import ssl

    import urllib3

    trust = ssl.create_default_context() if to.https or (by and by.url.startswith("https:")) else None
    if by is None:
        return urllib3.PoolManager(ssl_context=trust)
    login = urllib3.make_headers(proxy_basic_auth=by.login) if by.login else {}
    return urllib3.ProxyManager(by.url, proxy_headers=login, ssl_context=trust, proxy_ssl_context=trust)


def hindrance(error: Exception) -> str:
    """Why a proxy gave no way to the server, so that nothing was sent to it; empty for anything else."""
    from urllib3 import exceptions

    cause = error.args[-1] if error.args else None
    # The words of http.client, whose error has no field for it.
    if refused := re.match(r"Tunnel connection failed: (\d{3}.*)", str(cause)):
        return f"{refused[1]}; {PASSWORD}" if refused[1].startswith("407") else refused[1]
    if not isinstance(error, exceptions.ProxyError):
        return ""
    inner = cause.__cause__ if isinstance(cause, Exception) else None
    return str(getattr(inner, "strerror", None) or "no answer")
