"""HTTP with one server, over connections that stay open; standard library only."""

from __future__ import annotations

import base64
import functools
import http.client
import ssl
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

#: Seconds until there is a connection, and then between two signs of life.
CONNECT, READ = 5.0, 30.0

#: Bytes of an answer: a work order, the longest we read, has far fewer.
LARGEST = 16 << 20


class NoAnswer(Exception):
    """None that is of any use; there may be one later."""


@dataclass(frozen=True)
class Answer:
    status: int
    reason: str
    headers: http.client.HTTPMessage
    body: bytes


class Wire:
    """Threads may share it: each request has a connection to itself, and leaves it to the next."""

    def __init__(self, url: str) -> None:
        """To the server of that URL, through the proxy that urllib would take."""
        self._idle: list[http.client.HTTPConnection] = []
        self._server = urllib.parse.urlsplit(url)
        self._proxy = _proxy(self._server)

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """What the server says, whatever that is. Raises NoAnswer.

        May be heard twice: where a connection was kept, and the other side has closed it meanwhile.
        """
        try:
            if self._idle:
                try:
                    return self._ask(self._idle.pop(), method, path, headers, body)
                except TimeoutError:
                    raise
                except (OSError, IndexError):
                    # Closed, or another thread was faster.
                    pass
            return self._ask(self._connect(), method, path, headers, body)
        except (OSError, http.client.HTTPException, ValueError, NoAnswer) as error:
            # Other errors' words have parts of an answer in them, which may be a secret's.
            words = str(error) if isinstance(error, (OSError, NoAnswer)) else type(error).__name__
            raise NoAnswer(f"no answer from {self._server.netloc}: {words}") from error

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    __del__ = close

    def _connect(self) -> http.client.HTTPConnection:
        to, secure = self._proxy or self._server, self._server.scheme == "https"
        connection = (
            http.client.HTTPSConnection(to.hostname or "", to.port, timeout=CONNECT, context=_trust())
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
                # It may have said why before it closed.
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
    """The whole of it; raises HTTPException for half of one, and NoAnswer for one that is too long."""
    if response.length is None and not response.chunked:
        # It ends with the connection: half of one, of the headers even, would look like a whole one.
        raise NoAnswer("an answer does not tell its length")
    if (response.length or 0) <= LARGEST:
        # Of a known length nothing may be missing, which read(number) would not tell.
        body = response.read(LARGEST + 1) if response.chunked else response.read()
        if len(body) <= LARGEST:
            return body
    raise NoAnswer(f"an answer is longer than {LARGEST} bytes")


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
def _trust() -> ssl.SSLContext:
    """The system's own authorities; read once, for it takes a while."""
    return ssl.create_default_context()
