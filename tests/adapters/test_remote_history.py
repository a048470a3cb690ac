"""Lists of jobs and their past over HTTP, against a server with prepared answers."""

from urllib.parse import parse_qs, urlsplit

import pytest

from provisioner.core.errors import NotFound
from provisioner.core.views.history.shapes import Revisions
from provisioner.faces.api.http import examples
from tests.adapters.answering import Against, in_turn, record


def test_views_are_the_servers(against: Against) -> None:
    views = examples.job_lines(), examples.past(), Revisions((examples.revision(),), 7), examples.revision_recipe()
    client, server = against(in_turn(*map(record, views)))
    history = client.control.history
    found = history.jobs("a b", "ann/x", 5), history.runs("ann/train", 9), history.revisions("train", 8, 2)
    assert (*found, history.revision("train", 3)) == views
    asked = [urlsplit(each.path) for each in server.asked]
    assert [(each.path, parse_qs(each.query)) for each in asked] == [
        ("/api/job-lines", {"search": ["a b"], "cursor": ["ann/x"], "limit": ["5"]}),
        ("/api/jobs/train/past", {"owner_name": ["ann"], "count": ["9"]}),
        ("/api/jobs/train/revisions", {"limit": ["2"], "before": ["8"]}),
        ("/api/jobs/train/revisions/3", {}),
    ]


def test_impossible_name_of_a_job_is_not_sent(against: Against) -> None:
    client, server = against(in_turn())
    with pytest.raises(NotFound):
        client.control.history.revision("../tokens", 1)
    assert server.asked == []
