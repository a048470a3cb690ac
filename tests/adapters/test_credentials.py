"""Faults of the control plane's login and of the AWS account: the operator ends them, and no run is refused."""

import json
import math
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions as boto
import pytest

from provisioner.adapters import aws, credentials, s3
from provisioner.adapters.ec2 import codes
from provisioner.adapters.ec2.cloud import Ec2
from provisioner.adapters.s3 import S3
from provisioner.core import errors
from provisioner.rehearsal.double import Double
from provisioner.rehearsal.ec2.conditions import Lapse

HINTS = ("credentials", "account", "create the role", "log in")


@pytest.mark.parametrize("code", credentials.ADVICE)
@pytest.mark.parametrize("translate", [codes.translate, s3.translate])
def test_code_of_every_service_needs_the_operator_and_says_what_to_do(code: str, translate: aws.Translate) -> None:
    error = translate(code, "as AWS says it.")
    assert type(error) is errors.NeedsOperator
    assert (error.code, str(error).partition(": ")[2].partition(";")[0]) == (code, "as AWS says it")
    assert any(hint in str(error) for hint in HINTS)


def test_ami_that_the_account_may_not_use_is_a_mistake_in_the_settings() -> None:
    """EC2 has the same code for it as for wrong credentials."""
    error = codes.translate("AuthFailure", "Not authorized for images: [ami-0123456789abcdef0]")
    assert type(error) is errors.Misconfigured
    assert type(codes.translate("AuthFailure", "AWS was not able to validate the provided access credentials")) is (
        errors.NeedsOperator
    )


def failed(error: Exception) -> errors.CloudError:
    return aws.failure(error, codes.translate, lost=errors.NoAnswer)


@pytest.mark.parametrize(
    "error",
    [
        boto.NoCredentialsError(),
        boto.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
        boto.CredentialRetrievalError(provider="custom-process", error_msg="exit 1"),
        boto.SSOTokenLoadError(error_msg="no token"),
        boto.UnauthorizedSSOTokenError(),
        boto.TokenRetrievalError(provider="sso", error_msg="Token has expired and refresh failed"),
        boto.LoginRefreshRequired(),
        boto.LoginTokenLoadError(error_msg="no token"),
        boto.LoginInsufficientPermissions(),
        boto.NoAuthTokenError(),
        boto.RefreshWithMFAUnsupportedError(),
        boto.ProfileNotFound(profile="gone"),
        boto.ConfigParseError(path="~/.aws/config"),
        boto.InvalidConfigError(error_msg="the profile has no sso_region"),
        boto.MissingDependencyException(msg="awscrt"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_lack_of_credentials_needs_the_operator(error: Exception) -> None:
    """The names are those of botocore 1.44; the error's name is the code that `status` shows."""
    meaning = failed(error)
    assert type(meaning) is errors.NeedsOperator
    assert meaning.code == type(error).__name__
    assert "; " in str(meaning)


@pytest.mark.parametrize(
    "error",
    [
        boto.MetadataRetrievalError(error_msg="timed out"),
        boto.CredentialRetrievalError(provider="iam-role", error_msg="response did not contain: access_key"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_silent_metadata_service_is_asked_again_at_once(error: Exception) -> None:
    """The control host is a machine of EC2, whose metadata service is seldom silent for long."""
    assert type(failed(error)) is errors.Transient


@pytest.mark.parametrize(
    ("operation", "code", "status", "meaning"),
    [
        ("AssumeRole", "AccessDenied", 403, errors.NeedsOperator),
        ("GetRoleCredentials", "ForbiddenException", 403, errors.NeedsOperator),
        ("AssumeRole", "Throttling", 429, errors.Throttled),
        ("AssumeRole", "InternalFailure", 500, errors.NoAnswer),
        ("CreateFleet", "UnauthorizedOperation", 403, errors.Misconfigured),
    ],
)
def test_call_for_credentials_that_is_denied_needs_the_operator(
    operation: str, code: str, status: int, meaning: type[errors.CloudError]
) -> None:
    """It has nothing to do with the rights of the call that needed the credentials."""
    answer: Any = {"Error": {"Code": code, "Message": "not now"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    assert type(failed(boto.ClientError(answer, operation))) is meaning


def test_call_is_not_repeated_when_only_a_person_can_help() -> None:
    """Five tries of each call would make a pass without credentials take a minute."""
    made: list[str] = []

    def call() -> None:
        made.append("call")
        raise boto.UnauthorizedSSOTokenError

    with pytest.raises(errors.NeedsOperator):
        aws.Calls(codes.translate, first_wait=0).repeat(call)
    assert made == ["call"]


# Logins that come back while the process runs


class Host:
    """A control host without credentials in its environment, whose user has a folder `~/.aws`."""

    def __init__(self, double: Double, folder: Path) -> None:
        self.double = double
        self.folder = folder
        keys = double.environment()
        self.right = keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"]

    def write_keys(self, access_key: str, secret_key: str) -> None:
        text = f"[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n"
        (self.folder / "credentials").write_text(text)

    def write_process(self, body: str) -> None:
        """Make a program that prints credentials, or fails."""
        program = self.folder / "login"
        program.write_text(f"#!{sys.executable}\n{body}\n")
        program.chmod(stat.S_IRWXU)
        (self.folder / "config").write_text(f"[default]\ncredential_process = {program}\n")


@pytest.fixture
def host(double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(double, tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(aws, "RENEW_EVERY", 0.0)
    return made


@pytest.fixture
def calls(double: Double) -> Iterator[tuple[Callable[[], object], Callable[[], object]]]:
    """Return a call of each adapter, of a process that lives on."""
    session = aws.Session(double.region)
    subnets = list(double.account.subnets)[:1]
    cloud, bucket = Ec2("installation-1", session, subnets), S3(double.bucket, session)
    yield cloud.machines, lambda: bucket.put("installation.json", b"x")
    session.close()


def fails(call: Callable[[], object], code: str) -> None:
    with pytest.raises(errors.NeedsOperator) as caught:
        call()
    assert caught.value.code == code


def test_process_that_began_without_credentials_uses_those_of_a_later_login(host: Host, calls: Any) -> None:
    """botocore's clients keep what they found when they were made, also if it was nothing."""
    for call in calls:
        fails(call, "NoCredentialsError")
    host.write_keys(*host.right)
    for call in calls:
        call()


def test_keys_that_were_replaced_in_the_file_are_read_again(host: Host, calls: Any) -> None:
    """Tools that log in write temporary keys into this file."""
    host.write_keys("AKIAOLD", "old")
    fails(calls[0], "AuthFailure")
    fails(calls[1], "InvalidAccessKeyId")
    host.write_keys(*host.right)
    for call in calls:
        call()


def test_login_program_that_fails_and_then_works(host: Host, calls: Any) -> None:
    host.write_process("raise SystemExit('log in first')")
    fails(calls[0], "CredentialRetrievalError")
    keys = {"Version": 1, "AccessKeyId": host.right[0], "SecretAccessKey": host.right[1]}
    host.write_process(f"print({json.dumps(json.dumps(keys))})")
    for call in calls:
        call()


def test_sso_login_that_is_missing_says_how_to_log_in(host: Host, calls: Any) -> None:
    lines = [
        "[default]",
        "sso_session = work",
        "sso_account_id = 123456789012",
        "sso_role_name = dev",
        "[sso-session work]",
        "sso_region = us-east-1",
        "sso_start_url = https://sso.example.com/start",
    ]
    (host.folder / "config").write_text("\n".join(lines))
    with pytest.raises(errors.NeedsOperator, match="aws sso login"):
        calls[0]()


def test_profile_that_does_not_exist_needs_the_operator(
    host: Host, calls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was an error of Python's, which is shown as a bug of ours."""
    monkeypatch.setenv("AWS_PROFILE", "gone")
    fails(calls[0], "ProfileNotFound")
    host.write_keys(*host.right)
    monkeypatch.delenv("AWS_PROFILE")
    calls[0]()


def test_credentials_are_read_again_at_most_every_few_seconds(
    host: Host, calls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making a client reads megabytes of service descriptions."""
    monkeypatch.setattr(aws, "RENEW_EVERY", 1000.0)
    fails(calls[0], "NoCredentialsError")
    fails(calls[0], "NoCredentialsError")
    host.write_keys(*host.right)
    fails(calls[0], "NoCredentialsError")


def test_login_that_expires_and_comes_back(double: Double, calls: Any) -> None:
    """Each service has its own code for it."""
    for call in calls:
        call()
    double.change(lapses=(Lapse(0.0, math.inf),))
    fails(calls[0], "RequestExpired")
    fails(calls[1], "ExpiredToken")
    double.change(lapses=())
    for call in calls:
        call()
