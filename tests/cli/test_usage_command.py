"""`provision usage` and `provisioner.usage`, on the control host and through a server."""

import csv
import io
import json

import pytest

import provisioner
from provisioner.faces.cli import exits
from tests.cli.conftest import Provision
from tests.e2e.rig import Rig

pytestmark = pytest.mark.usefixtures("whole")


@pytest.fixture(scope="module")
def used(whole: Rig) -> Rig:
    """Run two jobs, one of which fails, each on a spot machine of a dollar an hour."""
    with provisioner.connect() as client:
        for name in ("good", "bad"):
            spec = {"name": name, "image": "any", "instance_type": "g5.xlarge", "command": "true"}
            client.apply({"type": "job", "spec": {**spec, "use_spot_instance": True, "tags": {"team": "=x"}}})
            client.start(name).wait()
    whole.until(lambda: not whole.service.operator.unfinished())
    return whole


@pytest.mark.usefixtures("used")
def test_the_table_labels_what_is_estimated_and_says_what_is_not_included(provision: Provision) -> None:
    """Each machine ran for a few seconds, so each costs a minute."""
    done = provision("usage", "--by", "use")
    assert done.code == 0
    lines = done.out.decode().splitlines()
    assert lines[0].endswith(", UTC")
    assert lines[1].split(maxsplit=4)[:4] == ["USE", "HOURS", "MACHINES", "DISKS"]
    assert lines[1].endswith("OF IT ESTIMATED")
    rows = {line.split()[0]: line.split() for line in lines[2:5]}
    assert rows["succeeded"][1:5] == ["0.02", "$0.0167", "$0.00", "$0.0167"]
    assert rows["failed"][-1] == "-"
    assert rows["total"][2] == "$0.0333"
    text = done.out.decode()
    assert "price: spot g5.xlarge: 1 $/h, " in text
    assert "not included: " in text


@pytest.mark.usefixtures("used")
def test_json_and_csv_and_python_have_the_same_amounts(provision: Provision) -> None:
    told = json.loads(provision("usage", "--by", "job", "--json").out)
    lines = list(csv.DictReader(io.StringIO(provision("usage", "--by", "job", "--csv").out.decode(), newline="")))
    with provisioner.connect() as client:
        found = client.usage("job")
    groups = {row.group[0]: row.final.dollars for row in found.rows}
    assert groups.keys() == {"tester/good", "tester/bad"}
    assert {line["job"]: float(line["dollars"]) for line in lines} == pytest.approx(groups, abs=1e-6)
    assert {row["group"][0]: row["final"]["dollars"] for row in told["rows"]} == groups
    assert {line["state"] for line in lines} == {"final"}
    assert found.estimated.total == 0


@pytest.mark.usefixtures("used")
def test_a_tag_that_a_spreadsheet_would_execute_is_escaped_in_csv(provision: Provision) -> None:
    text = provision("usage", "--by", "tag:team", "--csv").out.decode()
    assert text.splitlines()[1].startswith("'=x,final,")


@pytest.mark.usefixtures("used")
def test_another_period_has_no_usage(provision: Provision) -> None:
    done = provision("usage", "--from", "2026-01", "--to", "2026-01")
    assert done.code == 0
    assert "no machine was used in this period" in done.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--by", "colour"), "unknown dimension 'colour': use owner, group"),
        (("--from", "today"), "not a day 'today': write YYYY-MM-DD"),
        (("--csv", "--json"), "give either --csv or --json"),
    ],
)
def test_a_wrong_option_is_explained(provision: Provision, words: tuple[str, ...], text: str) -> None:
    done = provision("usage", *words)
    assert done.code == exits.INVALID
    assert text in done.last_line
