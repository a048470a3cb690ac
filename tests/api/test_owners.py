"""Another owner's data must look nonexistent: every operation of the OpenAPI document is called by the wrong user.

A new operation is covered as soon as it is in the document. The test fails for an operation with unknown parameters or
body until they are added here.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.api.served import Server, recipe

OWNER, JOB, SECRET = "laboratory-of-ann", "ann-s-own-work", "marker-of-ann-s-variable"

#: Valid request bodies by operation; operations that are not listed need none.
BODIES: Mapping[str, Any] = {
    "apply_recipe": json.loads(recipe(JOB, OWNER, schedule="@yearly")),
    "create_recipe": json.loads(recipe(JOB, OWNER, schedule="@yearly")),
    "change_job": {"cron_schedule_options": {"schedule": "@every 4h"}},
    "restart_job": {},
    "start_job": {"env": {"A": SECRET}},
    "set_schedule": {"schedule": "0 2 * * *"},
    "create_token": {"owners": [OWNER], "role": "admin"},
    "rerun_commands": {},
    "add_upload": "true",
}
#: Operations that need a cloud or a daemon, which these tests lack.
AWAY = {"readyz", "list_server_options"}
#: Operations for admins only.
ADMIN = {"create_token", "list_tokens", "revoke_token", "list_audit", "metrics"}


@dataclass(frozen=True)
class Theirs:
    """Ann's data, as values for the parameters of a path."""

    job: str
    run: str
    token: str

    @property
    def pod(self) -> str:
        return f"{JOB}-{self.run}-1-0"

    def fill(self, name: str) -> str:
        found = {"job": self.job, "run": self.run, "token": self.token, "name": JOB, "pod": self.pod}
        found |= {"workload_id": self.job, "pod_name": self.pod, "index": "0", "text": "a", "number": "1"}
        found |= {"org": OWNER, "member": OWNER}
        if name not in found:
            pytest.fail(f"the table does not know how to fill {{{name}}}: teach Theirs.fill")
        return found[name]

    def trace(self) -> set[str]:
        return {OWNER, JOB, SECRET, self.job, self.run, self.run[:12], self.token}


@dataclass(frozen=True)
class Operation:
    id: str
    method: str
    path: str
    public: bool
    named: bool
    #: Required query parameters.
    wanted: tuple[str, ...]
    body: Any

    def call(self, client: httpx.Client, theirs: Theirs, **query: str) -> httpx.Response:
        parts = self.path.split("/")
        path = "/".join(theirs.fill(part[1:-1]) if part.startswith("{") else part for part in parts)
        told = {} if self.body is None else {"json": self.body}
        wanted = {name: theirs.fill(name) for name in self.wanted}
        return client.request(self.method, path, params={**wanted, **query}, **told)


def operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            id, body = told["operationId"], None
            if "requestBody" in told:
                if id not in BODIES:
                    pytest.fail(f"the table does not know the body of {id}: teach BODIES")
                body = BODIES[id]
            asked = told.get("parameters", ())
            wanted = tuple(each["name"] for each in asked if each["in"] == "query" and each["required"])
            named = "{" in path or bool(wanted)
            yield Operation(id, method.upper(), path, told.get("security") == [], named, wanted, body)


def every(server: Server) -> list[Operation]:
    with server.client() as client:
        found = list(operations(client.get("/api/openapi.json").json()))
    # Run DELETE operations last.
    return sorted(found, key=lambda operation: operation.method == "DELETE")


@pytest.fixture(scope="module")
def theirs(quiet: Server) -> Theirs:
    # A list, so that the operations on its commands work.
    text = recipe(JOB, OWNER, schedule="@yearly", command=["true"])
    job = quiet.service.jobs.apply(text, "the test's recipe")
    run = quiet.service.runs.start(job.id, {"A": SECRET})
    token = quiet.service.tokens.create([OWNER], admin=False)
    return Theirs(job.id, run.id, token.id)


def traced(answer: httpx.Response, theirs: Theirs) -> set[str]:
    """Return the traces of Ann's data in the answer that the request itself did not contain."""
    asked = str(answer.request.url) + answer.request.content.decode()
    told = answer.text + json.dumps(dict(answer.headers))
    return {word for word in theirs.trace() if word in told and word not in asked}


def state_of(server: Server) -> object:
    service = server.service
    uploads = [each for each in service.installation.store.unused_uploads(9e15, 99) if each.owner == OWNER]
    return service.jobs.all(), service.runs.records(), service.schedules.all(), service.tokens.all(), uploads


def test_another_owners_data_is_hidden_from_a_user(quiet: Server, theirs: Theirs) -> None:
    """No operation lets the wrong user read or change another owner's data, or create access to it."""
    token = quiet.token("bob")
    before = state_of(quiet)
    with quiet.client(token) as bob:
        for operation in every(quiet):
            for query in ({}, {"owner_name": OWNER}, {"owner": OWNER}, {"job": f"{OWNER}/{JOB}"}):
                answer = operation.call(bob, theirs, **query)
                assert not traced(answer, theirs), (operation, query, answer.text)
                if operation.id in ADMIN:
                    assert answer.status_code == 403, (operation, answer.text)
                elif operation.named:
                    assert answer.status_code == 404, (operation, answer.text)
        by_name = Theirs(JOB, theirs.run[:12], theirs.token)
        for operation in every(quiet):
            answer = operation.call(bob, by_name, owner_name=OWNER)
            assert not traced(answer, theirs), (operation, answer.text)
            assert answer.status_code >= 400 or not operation.named, (operation, answer.text)
    assert state_of(quiet) == before


def test_request_without_a_valid_token_is_denied(quiet: Server, theirs: Theirs) -> None:
    """Without a valid token only the health endpoints answer."""
    before = state_of(quiet)
    for shown in ("", "pvt_0123456789ab_" + "x" * 43, "nonsense"):
        # Failed logins throttle this address only.
        with quiet.client(shown, **{"X-Forwarded-For": "192.0.2.1"}) as nobody:
            for operation in every(quiet):
                answer = operation.call(nobody, theirs)
                assert not traced(answer, theirs), (operation, answer.text)
                assert operation.public or answer.status_code in (401, 429), (operation, answer.text)
    assert state_of(quiet) == before


def test_every_operation_works_for_a_permitted_user(quiet: Server, theirs: Theirs) -> None:
    """Each operation works for a permitted user, so the requests of these tests are valid."""
    ann, admin = quiet.token(OWNER), quiet.token("root", admin=True)
    with quiet.client(ann) as user, quiet.client(admin) as keeper:
        for operation in every(quiet):
            answer = operation.call(keeper if operation.id in ADMIN else user, theirs)
            # A job with an unfinished run cannot be deleted, and the commands of such a run cannot run again.
            works = answer.status_code < 400 or answer.status_code == 409
            assert works or operation.id in AWAY, (operation, answer.text)
