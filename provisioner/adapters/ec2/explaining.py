"""Explain what EC2 only hints at: an encoded denial, and the quota behind an error.

Both need a right that the control plane may lack; then the error says what EC2 said, and where to look.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from provisioner.adapters import aws
from provisioner.core.cloud.launches import Refusal
from provisioner.core.cloud.quotas import Quota, quota_of
from provisioner.core.errors import CloudError, QuotaExceeded

#: EC2 adds it to the message of an UnauthorizedOperation (STS API Reference, "DecodeAuthorizationMessage").
_ENCODED = re.compile(r"[ :]*Encoded authorization failure message: ([\w.=/+-]+)")
#: Codes for a quota of running vCPUs.
_OF_VCPUS = frozenset({"MaxSpotInstanceCountExceeded", "VcpuLimitExceeded"})
#: Seconds to wait for the value of a quota. Without it, a run whose quota is too small waits and is not refused.
QUOTA_TIMEOUT = 5.0
#: Seconds for which an explanation is kept, also if there was none. A denied call is repeated every second.
KEPT = 300.0
#: Maximum number of explanations that are kept. When it is reached, all of them are dropped.
KEPT_MOST = 100


class Explaining:
    """Makes the calls that explain errors, at most one in KEPT seconds for each error."""

    def __init__(self, session: aws.Session, calls: aws.Calls) -> None:
        self._session = session
        self._calls = calls
        #: By the subject: the explanation, or None without one, and the monotonic time until which it is kept.
        self._known: dict[str, tuple[Any, float]] = {}

    def denial(self, message: str) -> str:
        """Return the message of a denied call with its encoded part decoded, or unchanged."""
        found = _ENCODED.search(message)
        if found is None:
            return message
        plain = message[: found.start()] + message[found.end() :]
        # Equal denials are encoded differently each time.
        decoded = self._kept(plain, lambda: _reason(self._decode(found[1])))
        if decoded is None:
            return f"{message}; `aws sts decode-authorization-message` shows the reason"
        return f"{plain.rstrip('.')}: {decoded}"

    def _decode(self, text: str) -> Any:
        client = self._session.client("sts")
        return json.loads(self._calls.once(client.decode_authorization_message, EncodedMessage=text)["DecodedMessage"])

    def quota(self, refusal: Refusal) -> Refusal:
        """Return the refusal; if a quota of vCPUs caused it, with the quota's value, if AWS shows it, and its page."""
        error, offer = refusal.error, refusal.offer
        quota = quota_of(offer) if offer and error.code in _OF_VCPUS and isinstance(error, QuotaExceeded) else None
        if quota is None or not isinstance(error, QuotaExceeded):
            return refusal
        vcpus = self._kept(quota.code, lambda: self.value(quota.code)) if error.vcpus is None else error.vcpus
        said = str(error).removeprefix(f"{error.code}: ").rstrip(".")
        told = QuotaExceeded(f"{said}; {_told(quota, vcpus)}", error.code, vcpus=vcpus)
        told.at = error.at
        return Refusal(told, offer)

    def value(self, code: str) -> int:
        """Return the value of a quota; raises CloudError."""
        client = self._session.client("service-quotas", QUOTA_TIMEOUT)
        answer = self._calls.once(client.get_service_quota, ServiceCode="ec2", QuotaCode=code)
        return int(answer["Quota"]["Value"])

    def _kept(self, subject: str, ask: Callable[[], Any]) -> Any:
        """Return what `ask` returns, or None after an error: an explanation must not hide the error itself."""
        value, until = self._known.get(subject, (None, -math.inf))
        if time.monotonic() < until:
            return value
        try:
            with aws.reading("a call that explains an error"):
                value = ask()
        except CloudError:
            value = None
        if len(self._known) >= KEPT_MOST:
            self._known.clear()
        self._known[subject] = value, time.monotonic() + KEPT
        return value


def _told(quota: Quota, vcpus: int | None) -> str:
    where = f"ask for more at {quota.page}"
    if vcpus is None:
        return f"the quota {quota.code} ({quota.name}) is used up, or is 0, as in a new account: {where}"
    new = ", as in a new account" if vcpus == 0 else ""
    return f"the quota {quota.code} ({quota.name}) is {vcpus} vCPUs{new}: {where}"


def _reason(said: Mapping[str, Any]) -> str:
    """Return who may not do what, and why, from a decoded message (ibid.)."""
    context = said["context"]
    who, what = context["principal"]["arn"], f"{context['action']} on {context['resource']}"
    if not said["explicitDeny"]:
        return f"no policy allows {who} to do {what}"
    items = said.get("matchedStatements", {}).get("items", ())
    names = ", ".join(filter(None, (item.get("statementId") for item in items)))
    return f"a policy forbids {who} to do {what}{f' (statement {names})' if names else ''}"
