"""Connections to the server: direct, or through the proxy of HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY."""

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from provisioner.adapters.remote.address import Address, is_loopback
from provisioner.core.errors import Invalid

#: The advice for status 407: the proxy requires a login.
PASSWORD = "write http://NAME:PASSWORD@HOST:PORT into HTTPS_PROXY or HTTP_PROXY"


@dataclass(frozen=True)
class Proxy:
    #: The URL for messages and connections, without a name or password.
    url: str
    #: `name:password`, or empty.
    login: str = field(repr=False)


def proxy(to: Address) -> Proxy | None:
    """Return the proxy that the environment names for the server, as curl reads it, or None. Raises Invalid."""
    # No proxy for loopback addresses: a proxy would connect to its own host, and would get the token in clear text.
    if is_loopback(to.host):
        return None
    # Imported only here, because the import is slow and nothing else needs it.
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
        raise Invalid("invalid proxy URL in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY: write http://HOST:PORT")
    shown = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username is not None else ""
    return Proxy(shown, login)


def connections(to: Address, by: Proxy | None) -> Any:
    """Return urllib3's pool for the server; TLS trusts OpenSSL's default certificates, or SSL_CERT_FILE."""
    import ssl

    import urllib3

    trust = ssl.create_default_context() if to.https or (by and by.url.startswith("https:")) else None
    if by is None:
        return urllib3.PoolManager(ssl_context=trust)
    login = urllib3.make_headers(proxy_basic_auth=by.login) if by.login else {}
    return urllib3.ProxyManager(by.url, proxy_headers=login, ssl_context=trust, proxy_ssl_context=trust)


def hindrance(error: Exception) -> str:
    """Return why the proxy did not connect to the server, or "" for any other error.

    If the proxy did not connect, nothing was sent to the server.
    """
    from urllib3 import exceptions

    cause = error.args[-1] if error.args else None
    # http.client reports the proxy's status only in this text.
    if refused := re.match(r"Tunnel connection failed: (\d{3}.*)", str(cause)):
        return f"{refused[1]}; {PASSWORD}" if refused[1].startswith("407") else refused[1]
    if not isinstance(error, exceptions.ProxyError):
        return ""
    inner = cause.__cause__ if isinstance(cause, Exception) else None
    return str(getattr(inner, "strerror", None) or "no answer")
