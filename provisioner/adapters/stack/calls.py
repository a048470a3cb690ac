"""Make the calls of `provision setup`, whose login is not the control plane's."""

from collections.abc import Iterator
from typing import Any

from provisioner.adapters import aws
from provisioner.core.errors import CloudError, Misconfigured


def translate(code: str, message: str) -> CloudError:
    return aws.PASSING.get(code, Misconfigured)(message, code)


class SetupCalls:
    """Calls by service and operation; every failure is a CloudError with AWS's code."""

    def __init__(self, session: aws.Session, calls: aws.Calls | None = None) -> None:
        self._session = session
        self._calls = calls or aws.Calls(translate, session=session)

    def call(self, service: str, operation: str, **parameters: Any) -> Any:
        """Call an operation, and repeat it after a temporary fault: each operation here may be repeated."""
        try:
            return self._calls.repeat(getattr(self._session.client(service), operation), **parameters)
        except CloudError as error:
            if error.code in aws.DENIED:
                said = str(error).removeprefix(f"{error.code}: ").partition(" (")[2].removesuffix(")")
                raise Misconfigured(
                    f"{service} {operation} is denied: this login needs the rights of"
                    f" `provision setup --print-policy`, or an administrator's (AWS_PROFILE): {said}",
                    error.code,
                ) from error
            raise

    def pages(self, service: str, operation: str, key: str, **parameters: Any) -> Iterator[Any]:
        """Yield the entries of all pages of a listing."""
        while True:
            answer = self.call(service, operation, **parameters)
            yield from answer[key]
            if not (token := answer.get("NextToken")):
                return
            parameters["NextToken"] = token
