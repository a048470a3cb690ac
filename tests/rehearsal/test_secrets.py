"""Parameters, secrets and registry tokens of the double, as a machine can read them."""

import base64

import pytest

from provisioner.core.errors import Invalid
from provisioner.rehearsal.aws.faults import Effect, Rule
from provisioner.rehearsal.scenario import parse
from tests.rehearsal.conftest import Raise
from tests.rehearsal.rights import ME, status

SCENARIO = {
    "parameters": {"/team/token": "one", "plain": "two"},
    "secrets": {"team/keys": '{"KEY": "three"}'},
}


def test_a_machine_reads_what_the_scenario_holds(up: Raise) -> None:
    """Values are read by name and decrypted; each call is logged with that name."""
    rig = up(SCENARIO)
    ssm, secrets = rig.client("ssm", ME), rig.client("secretsmanager", ME)
    for name, value in SCENARIO["parameters"].items():
        assert ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"] == value
    assert ssm.get_parameter(Name="/team/token")["Parameter"]["Value"] != "one"
    answer = secrets.get_secret_value(SecretId="team/keys")
    assert answer["SecretString"] == '{"KEY": "three"}'
    token = rig.client("ecr", ME).get_authorization_token()["authorizationData"][0]["authorizationToken"]
    assert base64.b64decode(token).startswith(b"AWS:")
    asked = [(call.action, call.resource) for call in rig.double.calls.every if call.principal.endswith(ME)]
    assert ("GetParameter", "/team/token") in asked
    assert ("GetSecretValue", "team/keys") in asked


def test_secret_outside_the_policy_is_denied(up: Raise) -> None:
    """By default only the scenario's secrets are readable; for others their existence is not revealed."""
    rig = up(SCENARIO)
    assert status(lambda: rig.client("ssm", ME).get_parameter(Name="/other")) == 400
    assert status(lambda: rig.client("secretsmanager", ME).get_secret_value(SecretId="other")) == 400


def test_a_scenario_may_close_its_secrets(up: Raise) -> None:
    """The scenario's policy replaces the open one and is evaluated as by AWS."""
    prefix = "arn:aws:secretsmanager:us-east-1:123456789012:secret"
    read = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": f"{prefix}:team/*-??????"}
    rig = up({**SCENARIO, "job_policy": {"Version": "2012-10-17", "Statement": [read]}})
    assert status(lambda: rig.client("secretsmanager", ME).get_secret_value(SecretId="team/keys")) == 200
    assert status(lambda: rig.client("ssm", ME).get_parameter(Name="/team/token")) == 400
    assert status(lambda: rig.client("ecr", ME).get_authorization_token()) == 400


def test_a_fault_spoils_one_secret(up: Raise) -> None:
    """A fault's rule selects a secret by its id."""
    rig = up(SCENARIO)
    rig.double.faults.add(
        Rule(
            Effect.ERROR, action="GetSecretValue", resource="team/keys", code="ThrottlingException", status=400, times=1
        )
    )
    secrets = rig.client("secretsmanager", ME)
    with pytest.raises(secrets.exceptions.ClientError, match="ThrottlingException"):
        secrets.get_secret_value(SecretId="team/keys")
    assert status(lambda: secrets.get_secret_value(SecretId="team/keys")) == 200


def test_an_empty_value_is_refused() -> None:
    """Neither service accepts an empty value."""
    with pytest.raises(Invalid, match="parameters"):
        parse({"parameters": {"/x": ""}})
