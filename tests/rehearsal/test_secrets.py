"""Parameters, secrets and the token of a registry, as a machine of the double may read them."""

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
    """By name, decrypted; each call is in the log with the name that was asked for."""
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


def test_what_the_policy_does_not_name_is_denied(up: Raise) -> None:
    """Only the scenario's own are open by default; whether another exists is not told."""
    rig = up(SCENARIO)
    assert status(lambda: rig.client("ssm", ME).get_parameter(Name="/other")) == 400
    assert status(lambda: rig.client("secretsmanager", ME).get_secret_value(SecretId="other")) == 400


def test_a_scenario_may_close_its_secrets(up: Raise) -> None:
    """The given policy stands instead of the open one; it is weighed as AWS would weigh it."""
    prefix = "arn:aws:secretsmanager:us-east-1:123456789012:secret"
    read = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": f"{prefix}:team/*-??????"}
    rig = up({**SCENARIO, "job_policy": {"Version": "2012-10-17", "Statement": [read]}})
    assert status(lambda: rig.client("secretsmanager", ME).get_secret_value(SecretId="team/keys")) == 200
    assert status(lambda: rig.client("ssm", ME).get_parameter(Name="/team/token")) == 400
    assert status(lambda: rig.client("ecr", ME).get_authorization_token()) == 400


def test_a_fault_spoils_one_secret(up: Raise) -> None:
    """Rules name a secret by its id, as they name any other thing."""
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
    """Neither service holds one."""
    with pytest.raises(Invalid, match="parameters"):
        parse({"parameters": {"/x": ""}})
