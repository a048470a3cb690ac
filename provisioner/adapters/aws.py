"""Call AWS services, retry the calls, and translate their failures.

The import of boto3, botocore and tenacity takes 0.4 s, and most commands call no cloud: the first call imports them,
not this module.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any, ParamSpec, TypeVar

from provisioner.adapters import credentials
from provisioner.adapters.descriptors import shortage
from provisioner.core import errors
from provisioner.core.cloud import clock_skew
from provisioner.core.errors import CloudError

P = ParamSpec("P")
R = TypeVar("R")

Translate = Callable[[str, str], CloudError]

#: Seconds to connect to a service; a healthy service takes milliseconds.
CONNECT_TIMEOUT = 5.0
#: Seconds between two bytes of an answer; the slowest answer, a page of 1,000 machines, takes a few seconds.
READ_TIMEOUT = 20.0
#: Connections that one client keeps. If more threads share the client, urllib3 discards connections and logs warnings.
CONNECTIONS = 64
#: Seconds between two reads of rejected credentials. A read takes up to a second, if it asks the metadata service.
RENEW_EVERY = 5.0

#: Our own error code for an answer that cannot be read.
UNREADABLE = "UnreadableAnswer"

#: Codes of temporary errors that every service may return (as botocore's own retry modes list them).
PASSING: Mapping[str, type[CloudError]] = {
    "BandwidthLimitExceeded": errors.Throttled,
    "EC2ThrottledException": errors.Throttled,
    "LimitExceededException": errors.Throttled,
    "PriorRequestNotComplete": errors.Throttled,
    "RequestLimitExceeded": errors.Throttled,
    "RequestThrottled": errors.Throttled,
    "RequestThrottledException": errors.Throttled,
    "SlowDown": errors.Throttled,
    "ThrottledException": errors.Throttled,
    "Throttling": errors.Throttled,
    "ThrottlingException": errors.Throttled,
    "TooManyRequestsException": errors.Throttled,
    "InternalError": errors.Transient,
    "InternalFailure": errors.Transient,
    "InternalServerError": errors.Transient,
    "RequestTimeout": errors.Transient,
    "RequestTimeoutException": errors.Transient,
    "ServiceUnavailable": errors.Transient,
    "Unavailable": errors.Transient,
}

#: Error codes for a request whose signature is too old or from the future. EC2 returns only AuthFailure.
SIGNED_AT = frozenset(
    {"AuthFailure", "InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed", "SignatureDoesNotMatch"}
)
#: Seconds that a signature's time may be wrong: five minutes (IAM User Guide, "Signature Version 4"), less a margin.
SIGNED_WITHIN = 240.0


#: Error codes for a missing right.
DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
#: Rights whose names are not those of their operations, and rights outside EC2 (Service Authorization Reference).
RIGHTS: Mapping[str, str] = {
    "CopyObject": "s3:GetObject and s3:PutObject",
    "DeleteObjects": "s3:DeleteObject",
    "GetInstanceProfile": "iam:GetInstanceProfile",
    "GetObject": "s3:GetObject",
    "GetParameter": "ssm:GetParameter",
    "GetProducts": "pricing:GetProducts",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "PutObject": "s3:PutObject",
}


def _denied(operation: str, where: str, message: str) -> str:
    right, more = RIGHTS.get(operation, f"ec2:{operation}"), ""
    # S3's message names the missing right to a bucket's key (Amazon S3 User Guide, "Access denied (403) errors").
    if of_key := re.search(r"\bkms:\w+", message):
        right, more = of_key[0], " and `kms_keys` in the settings"
    return f"{operation}{where} is denied: the control plane's role needs {right}, see `provision iam control`{more}"


def failure(error: Exception, translate: Translate, *, lost: type[CloudError], where: str = "") -> CloudError:
    """Return the error to raise for a failed call: `lost` if the service may have acted without a readable answer.

    `where`, such as ` on bucket b`, follows the operation's name in the message about a missing right.

    Codes for capacity, quotas and throttling take precedence over the status: EC2 returns
    InsufficientInstanceCapacity with status 500.
    """
    import botocore.exceptions as boto

    if isinstance(error, boto.ClientError):
        told = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code, message = told.get("Code", ""), told.get("Message", "")
        if code in DENIED:
            message = f"{_denied(error.operation_name, where, message)} ({message})"
        meaning = credentials.fault(error) or translate(code, message)
        if status >= 500 and isinstance(meaning, errors.Misconfigured | errors.Transient):
            meaning = lost(message, code)
        elif status == 429:
            meaning = errors.Throttled(message, code)
        meaning.at = date(error.response)
        if code in SIGNED_AT and meaning.at is not None and abs(ahead := time.time() - meaning.at) > SIGNED_WITHIN:
            wrong = errors.ClockWrong(clock_skew.told(ahead), code)
            wrong.at = meaning.at
            return wrong
        return meaning
    # If no descriptor is left, a name lookup fails with an error that does not name this cause.
    if short := shortage(error) or shortage():
        return short
    if person := credentials.fault(error):
        return person
    code = type(error).__name__
    if isinstance(error, boto.ConnectionError) and not isinstance(error, boto.SSLError):
        url, cause = error.kwargs.get("endpoint_url", ""), error.kwargs.get("error", error)
        return errors.Transient(f"cannot reach AWS at {url} ({cause})" if url else str(error), code)
    if isinstance(error, boto.CredentialRetrievalError | boto.MetadataRetrievalError):
        return errors.Transient(str(error), code)
    sent = (boto.HTTPClientError, boto.SSLError, boto.IncompleteReadError, boto.FlexibleChecksumError)
    if isinstance(error, boto.BotoCoreError) and not isinstance(error, sent):
        return errors.Misconfigured(str(error), code)
    return lost(str(error), code)


@contextmanager
def reading(action: str, lost: type[CloudError] = errors.Transient) -> Iterator[None]:
    """Context that raises `lost` for an unreadable answer: a 200 that is empty, or lacks a field that is always sent.

    Such an answer must not be read as an empty list, for instance of machines.
    """
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise lost(
            f"the answer to {action} cannot be read ({error!r}): check for a proxy between this computer and AWS",
            UNREADABLE,
        ) from error


def date(response: Mapping[str, Any]) -> float | None:
    """Return the Unix seconds of the answer's Date header, from the service's clock; None without a valid header."""
    text = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None


class Calls:
    """The only retry layer: the SDK's own retries are off on every client.

    `repeat` is for calls that may be repeated. `once` makes a call a single time and raises `NoAnswer` if the answer is
    lost. Both raise every failure of a call as a `CloudError`. A fault that a person must end is not repeated.
    """

    def __init__(
        self,
        translate: Translate,
        *,
        attempts: int = 5,
        first_wait: float = 0.2,
        where: str = "",
        session: Session | None = None,
    ) -> None:
        """`where` is as in `failure`; `session` reads the credentials again after they were rejected.

        With 5 attempts and a first wait of 0.2 s, a call fails after 3 s of waits and up to 4 s of jitter.
        """
        self._translate = translate
        #: Returns the message of a denied call with the reason, as far as it can be found out.
        self.explain: Callable[[str], str] = str
        self._attempts = attempts
        self._first_wait = first_wait
        self._where = where
        self._session = session

    def once(self, operation: Callable[P, R], *args: P.args, **parameters: P.kwargs) -> R:
        with self._told(errors.NoAnswer):
            return operation(*args, **parameters)

    def repeat(self, operation: Callable[P, R], *args: P.args, **parameters: P.kwargs) -> R:
        import tenacity

        wait = tenacity.wait_exponential_jitter(multiplier=self._first_wait, max=5, jitter=min(1, 5 * self._first_wait))
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception(_worth_repeating),
            stop=tenacity.stop_after_attempt(self._attempts),
            wait=wait,
            reraise=True,
        ):
            with attempt, self._told(errors.Transient):
                return operation(*args, **parameters)
        raise AssertionError("unreachable: Retrying returns or raises")

    def translate(self, code: str, message: str) -> CloudError:
        """Return the error for a service's code and message, in an exception or in a list of errors."""
        return self._translate(code, self.explain(message) if code in DENIED else message)

    @contextmanager
    def _told(self, lost: type[CloudError]) -> Iterator[None]:
        import botocore.exceptions
        import botocore.parsers

        try:
            yield
        except (
            botocore.exceptions.BotoCoreError,
            botocore.exceptions.ClientError,
            botocore.parsers.ResponseParserError,
        ) as error:
            meaning = failure(error, self.translate, lost=lost, where=self._where)
            if self._session and isinstance(meaning, errors.NeedsOperator):
                self._session.renew()
            raise meaning from error


def _worth_repeating(error: BaseException) -> bool:
    return isinstance(error, errors.Retryable) and not isinstance(error, errors.NeedsOperator)


class Session:
    """The clients of all services, each made at its first use.

    Threads may share clients but not a session (boto3 guide, "Session"). One session loads AWS's service descriptions
    once for all clients.
    """

    def __init__(self, region: str, endpoint: str | None = None) -> None:
        """Without `endpoint`, clients use AWS_ENDPOINT_URL, or else AWS's own endpoints.

        If `region` is "", they use the region of the environment, and S3 finds that of each bucket.
        """
        self.region, self._endpoint = region, endpoint
        self._session: Any = None
        self._clients: dict[tuple[str, str, float], Any] = {}
        self._lock = threading.Lock()
        #: The monotonic time of the last call of `renew` that had an effect.
        self._renewed_at = -math.inf

    def renew(self) -> None:
        """Read the credentials again for the next calls, at most every RENEW_EVERY seconds.

        A client keeps the credentials with which it was made, also if it was made without any; those of a later login
        may be in a file.
        """
        with self._lock:
            if time.monotonic() >= self._renewed_at + RENEW_EVERY:
                self._renewed_at = time.monotonic()
                # Calls that other threads are making end with the old clients.
                self._clients.clear()
                self._session = None

    def client(self, service: str, read_timeout: float = READ_TIMEOUT, region: str = "") -> Any:
        """Return boto3's client, the same for equal arguments until `renew` is called.

        Without `region` the client is for the session's region. Raises Invalid for a malformed endpoint, and
        NeedsOperator for a mistake in the AWS configuration files.
        """
        key = service, region or self.region, read_timeout
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._made(*key)
            return self._clients[key]

    def _made(self, service: str, region: str, read_timeout: float) -> Any:
        """Make a client without the SDK's retries, and with checksums regardless of the environment."""
        import boto3
        import botocore.exceptions
        from botocore.config import Config

        config = Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=read_timeout,
            max_pool_connections=CONNECTIONS,
            retries={"total_max_attempts": 1, "mode": "standard"},
            request_checksum_calculation="when_supported",
            response_checksum_validation="when_supported",
            # S3 servers other than AWS seldom have a host name for each bucket; AWS prefers requests to these names.
            s3={"addressing_style": "path" if self._endpoint else "auto"},
        )
        try:
            self._session = self._session or boto3.session.Session(region_name=self.region or None)
            return self._session.client(service, region_name=region or None, endpoint_url=self._endpoint, config=config)
        except botocore.exceptions.BotoCoreError as error:
            raise credentials.fault(error) or errors.Misconfigured(str(error), type(error).__name__) from error
        except ValueError as error:
            # boto3's message is only "Invalid endpoint: URL", for instance for a container whose name contains `_`.
            raise errors.Invalid(
                f"{error}: the host name of an endpoint (AWS_ENDPOINT_URL) may have letters, digits, `-` and `.`, "
                "but no `_`; write IPv6 addresses in brackets"
            ) from error

    def close(self) -> None:
        with self._lock:
            while self._clients:
                self._clients.popitem()[1].close()
