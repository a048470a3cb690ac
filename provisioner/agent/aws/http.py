"""Send HTTP requests to one server over persistent connections; standard library only."""

from __future__ import annotations

import base64
import functools
import http.client
import ssl
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

#: Maximum seconds to wait for a connection, and then for the next bytes.
CONNECT, READ = 5.0, 30.0

#: Maximum bytes of a response's body. The longest body that the agent reads, a work order, is far shorter.
LARGEST = 16 << 20


class NoAnswer(Exception):
    """Raised if there was no usable response; a later request may succeed."""


@dataclass(frozen=True)
class Answer:
    status: int
    reason: str
    headers: http.client.HTTPMessage
    body: bytes


class Wire:
    """The connections to one server. Threads may share a Wire: each connection serves one request at a time."""

    def __init__(self, url: str) -> None:
        """`url` is the server's URL; requests go through the proxy that urllib would use."""
        self._idle: list[http.client.HTTPConnection] = []
        self._server = urllib.parse.urlsplit(url)
        self._proxy = _proxy(self._server)

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a request and return the response, whatever its status. Raises NoAnswer.

        The server may get the request twice: if it closes an idle connection, the request is sent again on a new one.
        """
        try:
            if self._idle:
                try:
                    return self._ask(self._idle.pop(), method, path, headers, body)
                except TimeoutError:
                    raise
                except (OSError, IndexError):
                    # The server has closed the connection, or another thread has taken it.
                    pass
            return self._ask(self._connect(), method, path, headers, body)
        except (OSError, http.client.HTTPException, ValueError, NoAnswer) as error:
            # The message of any other error may contain a part of the response, which may be a secret.
            words = str(error) if isinstance(error, (OSError, NoAnswer)) else type(error).__name__
            raise NoAnswer(f"no usable response from {self._server.netloc}: {words}") from error

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    __del__ = close

    def _connect(self) -> http.client.HTTPConnection:
        to, secure = self._proxy or self._server, self._server.scheme == "https"
        connection = (
            http.client.HTTPSConnection(to.hostname or "", to.port, timeout=CONNECT, context=trust())
            if secure
            else http.client.HTTPConnection(to.hostname or "", to.port, timeout=CONNECT)
        )
        if self._proxy and secure:
            connection.set_tunnel(self._server.hostname or "", self._server.port, _login(self._proxy))
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        connection.sock.settimeout(READ)
        return connection

    def _ask(
        self, connection: http.client.HTTPConnection, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        if self._proxy and self._server.scheme == "http":
            path, headers = f"http://{self._server.netloc}{path}", {**headers, **_login(self._proxy)}
        cut = False
        try:
            try:
                connection.request(method, path, body or None, dict(headers))
            except (BrokenPipeError, ConnectionResetError):
                # The server may have sent an error response before it closed the connection.
                cut = True
            with connection.getresponse() as response:
                answer = Answer(response.status, response.reason, response.headers, _body(response))
        except BaseException:
            connection.close()
            raise
        if cut or response.will_close:
            connection.close()
        else:
            self._idle.append(connection)
        return answer


def _body(response: http.client.HTTPResponse) -> bytes:
    """Return the body; raises HTTPException if it is incomplete, NoAnswer if it is too long or has no length."""
    if response.length is None and not response.chunked:
        # Such a body ends when the connection closes, so a body or headers that were cut off would look complete.
        raise NoAnswer("the response has neither a Content-Length nor chunked encoding")
    if (response.length or 0) <= LARGEST:
        # read() raises if bytes of a known length are missing; read(number) does not.
        body = response.read(LARGEST + 1) if response.chunked else response.read()
        if len(body) <= LARGEST:
            return body
    raise NoAnswer(f"the response is longer than {LARGEST} bytes")


def _proxy(server: urllib.parse.SplitResult) -> urllib.parse.SplitResult | None:
    proxy = urllib.request.getproxies().get(server.scheme)
    if not proxy or urllib.request.proxy_bypass(server.netloc):
        return None
    return urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def _login(proxy: urllib.parse.SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    login = ":".join(urllib.parse.unquote(part or "") for part in (proxy.username, proxy.password))
    return {"Proxy-Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


@functools.cache
def trust() -> ssl.SSLContext:
    """Return a TLS context with the system's certificate authorities; cached, because reading them is slow."""
    return ssl.create_default_context()
