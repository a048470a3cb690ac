"""Call the double's own services with the rights of a stack's caller, as CloudFormation does."""

import threading
from typing import Any

import boto3
from botocore.config import Config

from provisioner.rehearsal.aws.metadata import Credentials


class Services:
    """boto3's clients of the double, by service."""

    def __init__(self, endpoint: str, region: str, credentials: Credentials) -> None:
        self.region = region
        self._endpoint, self._credentials = endpoint, credentials
        self._session = boto3.Session()
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __call__(self, service: str, operation: str, **parameters: Any) -> Any:
        """Call an operation, named as in boto3; raises botocore's ClientError."""
        with self._lock:
            client = self._clients.get(service) or self._clients.setdefault(service, self._made(service))
        return getattr(client, operation)(**parameters)

    def _made(self, service: str) -> Any:
        # boto3's stubs have an overload for each service's name.
        make: Any = self._session.client
        return make(
            service,
            region_name=self.region,
            endpoint_url=self._endpoint,
            aws_access_key_id=self._credentials.access_key,
            aws_secret_access_key=self._credentials.secret_key,
            aws_session_token=self._credentials.token or None,
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
