"""What is another owner's does not exist: every operation of the OpenAPI document, called by the wrong user.

An operation is covered as soon as it is in the document. One whose parameters or body nobody has told here fails.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.api.served import Server, recipe

OWNER, JOB, SECRET = "laboratory-of-ann", "ann-s-own-work", "marker-of-ann-s-variable"

#: Bodies that the operations take from whoever may; what is not here needs none.
BODIES: Mapping[str, Any] = {
    "apply_recipe": json.loads(recipe(JOB, OWNER, schedule="@yearly")),
    "create_recipe": json.loads(recipe(JOB, OWNER, schedule="@yearly")),
    "change_job": {"cron_schedule_options": {"schedule": "@every 4h"}},
    "restart_job": {},
    "start_job": {"env": {"A": SECRET}},
    "set_schedule": {"schedule": "0 2 * * *"},
    "create_token": {"owners": [OWNER], "role": "admin"},
}
#: What wants a cloud, which is not there.
AWAY = {"readyz", "list_server_options"}
#: What only an admin may do.
ADMIN = {"create_token", "list_tokens", "revoke_token", "list_audit", "metrics"}


@dataclass(frozen=True)
class Theirs:
    """What is Ann's, as every parameter of a path would name it."""

    job: str
    run: str
    token: str

    @property
    def pod(self) -> str:
        return f"{JOB}-{self.run}-1-0"

    def fill(self, name: str) -> str:
        found = {"job": self.job, "run": self.run, "token": self.token, "name": JOB, "pod": self.pod}
        found |= {"workload_id": self.job, "pod_name": self.pod}
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
    #: Parameters of the query that it wants.
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
    # What ends something comes last.
    return sorted(found, key=lambda operation: operation.method == "DELETE")


@pytest.fixture(scope="module")
def theirs(quiet: Server) -> Theirs:
    job = quiet.service.jobs.apply(recipe(JOB, OWNER, schedule="@yearly"), "the test's recipe")
    run = quiet.service.runs.start(job.id, {"A": SECRET})
    token = quiet.service.tokens.create([OWNER], admin=False)
    return Theirs(job.id, run.id, token.id)


def traced(answer: httpx.Response, theirs: Theirs) -> set[str]:
    """What an answer tells of Ann's that its own request did not."""
    asked = str(answer.request.url) + answer.request.content.decode()
    told = answer.text + json.dumps(dict(answer.headers))
    return {word for word in theirs.trace() if word in told and word not in asked}


def state_of(server: Server) -> object:
    service = server.service
    return service.jobs.all(), service.runs.records(), service.schedules.all(), service.tokens.all()


def test_the_wrong_user_finds_nothing(quiet: Server, theirs: Theirs) -> None:
    """No operation shows, starts, stops, schedules or reads another owner's anything, or lets anybody in."""
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


def test_nobody_finds_nothing(quiet: Server, theirs: Theirs) -> None:
    """Without a token, or with a wrong one, there is only what says that the server lives."""
    before = state_of(quiet)
    for shown in ("", "pvt_0123456789ab_" + "x" * 43, "nonsense"):
        # Who is denied again and again waits, and nobody else from elsewhere.
        with quiet.client(shown, **{"X-Forwarded-For": "192.0.2.1"}) as nobody:
            for operation in every(quiet):
                answer = operation.call(nobody, theirs)
                assert not traced(answer, theirs), (operation, answer.text)
                assert operation.public or answer.status_code in (401, 429), (operation, answer.text)
    assert state_of(quiet) == before


def test_the_right_user_finds_it_all(quiet: Server, theirs: Theirs) -> None:
    """So the table asks for what is there: each operation works for whoever may."""
    ann, admin = quiet.token(OWNER), quiet.token("root", admin=True)
    with quiet.client(ann) as user, quiet.client(admin) as keeper:
        for operation in every(quiet):
            answer = operation.call(keeper if operation.id in ADMIN else user, theirs)
            # A job with a run that is not done is not deleted.
            works = answer.status_code < 400 or answer.status_code == 409
            assert works or operation.id in AWAY, (operation, answer.text)
