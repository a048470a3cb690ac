"""Send HTTP requests to the server: one retry layer, one table of errors, a check that a provision server answered.

urllib3 and tenacity are imported by the first call, not by this module: `--help` sends no request.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from provisioner.adapters.remote.address import Address
from provisioner.adapters.remote.proxy import PASSWORD, Proxy, connections, hindrance, proxy
from provisioner.core import errors
from provisioner.core.errors import Invalid, ProvisionError
from provisioner.core.plain import plain
from provisioner.core.views.api import API, API_HEADER, PACKAGE_HEADER, install
from provisioner.core.views.codec import from_json
from provisioner.ports.clock import Clock

T = TypeVar("T")
Query = Sequence[tuple[str, str | int]]

JSON, EVENTS, BYTES, TEXT = "application/json", "text/event-stream", "application/octet-stream", "text/plain"
#: Seconds to connect, and between two bytes of an answer: a page of a log may wait for a slow bucket.
CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 60.0
#: Seconds until the server takes a piece of an upload: it may wait for other uploads, or for a slow bucket.
SENDING = 300.0
#: Least number of bytes of a piece that is sent.
PIECE = 1 << 16
#: Seconds between two bytes of a followed log; the client requests a heartbeat each second.
SILENCE = 15.0
#: Seconds for which a request to an unavailable server is retried: BRIEFLY by default, because the server may be
#: restarting; LONG while a command waits for a run or follows a log; NEVER for a screen that is redrawn each second.
BRIEFLY, LONG, NEVER = 10.0, 300.0, 0.0
#: Maximum number of bytes of an answer; the largest answers are a thousand runs.
LARGEST = 256 << 20

#: The error for each error code of the server. Faults of the server, and unknown codes, are raised as ProvisionError.
MEANING: Mapping[str, type[ProvisionError]] = {
    "invalid": Invalid,
    "method_not_allowed": Invalid,
    "too_large": Invalid,
    "denied": errors.Denied,
    "forbidden": errors.Forbidden,
    "not_found": errors.NotFound,
    "conflict": errors.Conflict,
    "wrong_store": errors.WrongStore,
    "try_again": errors.Transient,
    "cloud": errors.CloudError,
    "failed": errors.Failed,
}


class Away(Exception):
    """The failure of a call that may succeed later. When the call is not retried, `error` is raised instead."""

    def __init__(self, error: ProvisionError, *, acted: bool, after: float = 0.0) -> None:
        """`acted`: the server may have executed the request. `after`: seconds to wait before the next request."""
        super().__init__(str(error))
        self.error = error
        self.acted = acted
        self.after = after


class Calls:
    """Requests to one server. Raises only ProvisionError. Only one thread at a time may use it."""

    def __init__(self, address: Address, clock: Clock, told: Callable[[str], None]) -> None:
        """`told` gets one message when the server becomes unavailable, and one when it answers again."""
        self._address = address
        self._clock = clock
        self._told = told
        self._patience = BRIEFLY
        self._away = False
        self._pool: Any = None
        self._proxy: Proxy | None = None

    @contextlib.contextmanager
    def patient(self, told: Callable[[str], None], patience: float = LONG) -> Iterator[None]:
        """Context that retries requests to an unavailable server for `patience` seconds, with messages to `told`."""
        before = self._told, self._patience
        self._told, self._patience = told, patience
        try:
            yield
        finally:
            self._told, self._patience = before

    def ask(
        self,
        kind: type[T],
        method: str,
        path: str,
        query: Query = (),
        body: bytes | None = None,
        *,
        sends: str = "application/json",
        again: bool = True,
    ) -> T:
        """Return the view in the answer. `again`: the request is idempotent, so it is retried after a lost answer."""
        headers = {"Content-Type": sends} if body is not None else {}

        return self._persist(lambda: self._view(kind, method, path, query, headers, body), again=again)

    def _view(
        self,
        kind: type[T],
        method: str,
        path: str,
        query: Query,
        headers: Mapping[str, str],
        body: bytes | Iterator[bytes] | None,
        sending: float = CONNECT_TIMEOUT,
    ) -> T:
        with self._answered(method, path, query, JSON, headers, body, sending=sending) as response:
            data = response.read(LARGEST)
        try:
            return from_json(kind, json.loads(data))
        except (Invalid, ValueError, RecursionError) as error:
            raise self._stranger("not the expected JSON") from error

    def upload(self, kind: type[T], path: str, query: Query, pieces: Iterable[bytes]) -> T:
        """Return the view in the answer to a POST of a text, which is sent in pieces as they come.

        After the first piece the request is not repeated, because the pieces are there only once.
        """
        begun, left = False, iter(pieces)

        def sent() -> Iterator[bytes]:
            nonlocal begun
            waiting = bytearray()
            for piece in left:
                begun = True
                waiting += piece
                if len(waiting) >= PIECE:
                    yield bytes(waiting)
                    waiting.clear()
            yield bytes(waiting)

        def once() -> T:
            try:
                return self._view(kind, "POST", path, query, {"Content-Type": TEXT}, sent(), sending=SENDING)
            except Away as error:
                raise error.error if begun else error from error

        return self._persist(once, again=True)

    @contextlib.contextmanager
    def stream(self, path: str, query: Query, place: str) -> Iterator[Iterator[bytes]]:
        """Context with the bytes of an event stream after the event `place`, as they arrive, until the stream ends."""
        headers = {"Last-Event-ID": place} if place else {}
        with self._opened(path, query, EVENTS, headers, SILENCE) as response:
            yield _pieces(response)

    def download(self, path: str, accept: str = BYTES) -> Iterator[bytes]:
        """Yield the bytes of an answer as they arrive; raises Transient if the connection breaks before their end."""
        import urllib3

        with self._opened(path, (), accept, {}, READ_TIMEOUT) as response:
            try:
                while data := response.read1(1 << 16):
                    yield data
            except urllib3.exceptions.HTTPError as error:
                url = self._address.url
                raise errors.Transient(f"the connection to {url} was lost before the answer was complete") from error

    @contextlib.contextmanager
    def _opened(
        self, path: str, query: Query, accept: str, headers: Mapping[str, str], silence: float
    ) -> Iterator[Any]:
        """Context with the response to a GET, whose body is not read yet."""

        def opened() -> tuple[contextlib.ExitStack, Any]:
            with contextlib.ExitStack() as stack:
                answered = self._answered("GET", path, query, accept, headers, None, silence=silence)
                response = stack.enter_context(answered)
                return stack.pop_all(), response

        stack, response = self._persist(opened, again=True)
        with stack:
            yield response

    def close(self) -> None:
        if self._pool is not None:
            self._pool.clear()

    def _persist(self, call: Callable[[], T], *, again: bool) -> T:
        import tenacity

        jitter = tenacity.wait_exponential_jitter(multiplier=0.2, max=2.0, jitter=0.2)
        end = self._clock.now() + self._patience

        def passing(error: BaseException) -> bool:
            return isinstance(error, Away) and (again or not error.acted)

        def pause(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            return max(jitter(state), error.after if isinstance(error, Away) else 0.0)

        def tell(state: tenacity.RetryCallState) -> None:
            if not self._away:
                self._away = True
                why = state.outcome.exception() if state.outcome else None
                self._told(f"{why}; retrying for {round(self._patience)} s")

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(passing),
            stop=lambda state: self._clock.now() + state.upcoming_sleep > end,
            wait=pause,
            sleep=self._clock.wait,
            before_sleep=tell,
            reraise=True,
        )
        try:
            found = retrying(call)
        except Away as error:
            if error.acted and not again:
                text = f"{error}: the server may have executed the request; check before you retry"
                raise errors.NoAnswer(text) from error
            raise error.error from error
        if self._away:
            self._away = False
            self._told(f"{self._address.url} is available again")
        return found

    @contextlib.contextmanager
    def _answered(
        self,
        method: str,
        path: str,
        query: Query,
        accept: str,
        headers: Mapping[str, str],
        body: bytes | Iterator[bytes] | None,
        silence: float = READ_TIMEOUT,
        sending: float = CONNECT_TIMEOUT,
    ) -> Iterator[Any]:
        """Context in which a successful answer is read; failures are raised as ProvisionError or Away."""
        import urllib3

        url = f"{self._address.url}{path}{'?' if query else ''}{urlencode(query)}"
        said = {
            "Authorization": f"Bearer {self._address.token}",
            "Accept": accept,
            "User-Agent": "provision",
            **headers,
        }
        # urllib3 has one timeout for connecting and for sending.
        timeout = urllib3.Timeout(connect=sending, read=silence)
        try:
            # No redirect is followed, because the token must not be sent to another server.
            response = self._connections().urlopen(
                method,
                url,
                body=body,
                headers=said,
                retries=False,
                redirect=False,
                timeout=timeout,
                preload_content=False,
            )
            try:
                self._check_version(response)
                kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
                if not 200 <= response.status < 300:
                    raise self._refusal(response, kind)
                if kind != accept:
                    raise self._stranger(f"content type {kind or 'none'}")
                yield response
                if accept == JSON:
                    # The answer was read whole, so the next call can use its connection.
                    response.release_conn()
            finally:
                response.close()
        except urllib3.exceptions.HTTPError as error:
            raise self._broken(error) from error

    def _check_version(self, response: Any) -> None:
        """Raise Invalid if the server's API has another version than this client's."""
        spoken = response.headers.get(API_HEADER, "")
        if spoken.isdigit() and int(spoken[:9]) != API:
            advice = install(_version(response))
            raise Invalid(f"{self._address.url} has another API version than this client; {advice}")

    def _connections(self) -> Any:
        if self._pool is None:
            self._proxy = proxy(self._address)
            self._pool = connections(self._address, self._proxy)
        return self._pool

    def _broken(self, error: Exception) -> Exception:
        """Return the error for a call that got no complete answer."""
        import ssl

        from urllib3 import exceptions

        url = self._address.url
        if self._proxy and (why := hindrance(error)):
            text = f"{url} cannot be reached through the proxy {self._proxy.url}: {why}"
            if why.startswith("4"):
                return Invalid(f"{text}; to connect without the proxy, add the host to NO_PROXY")
            return Away(errors.Transient(text), acted=False)
        if isinstance(error, exceptions.SSLError):
            cause = error.args[0]
            if isinstance(cause, ssl.SSLCertVerificationError):
                return Invalid(
                    f"the certificate of {url} is not trusted: {cause.verify_message}; for a private CA, set "
                    "SSL_CERT_FILE to the CA's file"
                )
            why = getattr(cause, "reason", cause)
            return Away(errors.Transient(f"the TLS handshake with {url} failed: {why}"), acted=True)
        if isinstance(error, exceptions.ConnectTimeoutError):
            why = getattr(error.__cause__, "strerror", None) or "no answer"
            return Away(errors.Transient(f"{url} cannot be reached: {why}"), acted=False)
        return Away(errors.Transient(f"the connection to {url} was lost before the answer was complete"), acted=True)

    def _refusal(self, response: Any, kind: str) -> Exception:
        """Return the error that an answer reports by its status and body."""
        url, status = self._address.url, response.status
        if status == 407 and self._proxy:
            return Invalid(f"the proxy {self._proxy.url} requires a login for {url}: {PASSWORD}")
        if 300 <= status < 400:
            where = plain(response.headers.get("Location", "elsewhere")[:200])
            return Invalid(
                f"{url} redirects to {where}; redirects are not followed: set PROVISION_URL to the server's own URL"
            )
        after = _seconds(response.headers.get("Retry-After", ""))
        try:
            told = json.loads(response.read(LARGEST)) if kind == "application/json" else {}
            message, code = told["message"], told["code"]
            if not (isinstance(message, str) and isinstance(code, str)):
                raise TypeError("words are text")
        except (ValueError, TypeError, KeyError, RecursionError):
            if status in (429, 502, 503, 504):
                away = errors.Transient(f"{url} is unavailable: {status} {plain(str(response.reason or ''))}".rstrip())
                return Away(away, acted=status != 429, after=after)
            return self._stranger(f"status {status}, content type {kind or 'none'}")
        if code == "limit_reached":
            # Not retried: the limit does not change within seconds.
            return errors.LimitReached(message)
        if status == 429:
            return Away(errors.TooMany(message, after), acted=False, after=after)
        if code == "try_again":
            return Away(errors.Transient(message), acted=False, after=after)
        if code == "denied":
            return errors.Denied(f"{url} rejects this PROVISION_TOKEN: {message}")
        if code == "invalid" and message.startswith("body.") and message.endswith(": unknown field"):
            version, field = _version(response), message.removeprefix("body.").partition(":")[0]
            return Invalid(f"{url} does not support {field!r}: the server has the older version {version}; upgrade it")
        if code == "no_endpoint":
            return Invalid(f"{url} has a wrong path: set PROVISION_URL to the part of the server's URL before /api")
        return MEANING.get(code, ProvisionError)(message)

    def _stranger(self, how: str) -> Invalid:
        text = f"unexpected answer from {self._address.url} ({how[:100]}): check PROVISION_URL"
        return Invalid(plain(text))


def _version(response: Any) -> str:
    """Return the version of the server's package, or "?"."""
    return plain(response.headers.get(PACKAGE_HEADER, "?")[:40])


def _seconds(text: str) -> float:
    """Return Retry-After in seconds, at most an hour; 0 for a date, which our server never sends."""
    return min(float(text), 3600.0) if text.isascii() and text.isdigit() else 0.0


def _pieces(response: Any) -> Iterator[bytes]:
    import urllib3

    try:
        while data := response.read1(1 << 16):
            yield data
    except urllib3.exceptions.HTTPError:
        return  # The connection broke or was silent for too long: the reader resumes after the last event.
