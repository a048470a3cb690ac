"""Addresses of the page: `open` prints them, and commands accept them in place of ids."""

import json
import webbrowser
from collections.abc import Callable

import pytest

from provisioner.faces.cli import exits
from tests.cli.conftest import HERE, Provision
from tests.e2e.commands import settings_file
from tests.e2e.rig import Rig

pytestmark = pytest.mark.usefixtures("whole")

PAGE = "https://gpu.example.com:8443/provision"


@pytest.fixture
def started(provision: Provision, recipe: Callable[..., str]) -> Callable[[str], tuple[str, str]]:
    def start(name: str) -> tuple[str, str]:
        """Return the ids of a new job and of its run, which has ended."""
        provision("apply", recipe(name))
        run = json.loads(provision("start", name, "--wait", "--json").out)
        return run["job_id"], run["id"]

    return start


def test_page_of_a_run_stands_for_its_id(provision: Provision, started: Callable[[str], tuple[str, str]]) -> None:
    _, run = started("good-address")
    for address in (
        f"{PAGE}/run/{run}",
        f"HTTPS://host/run/{run}/log?stream=output#output:L12",
        f"http://[::1]/run/{run}/",
    ):
        for words in (("status",), ("receipt",), ("wait",), ("logs",)):
            done = provision(*words, address)
            assert done.code == 0, (words, done.err)
    assert run[:12] in provision("stop", f"{PAGE}/run/{run}").out.decode()


def test_page_of_a_job_stands_for_its_id_and_for_its_latest_run(
    provision: Provision, started: Callable[[str], tuple[str, str]]
) -> None:
    started("good-page")
    job, latest = started("good-page")
    for address in (f"{PAGE}/job/{job}", f"{PAGE}/dash/resources/job/{job}?tab=overview"):
        assert json.loads(provision("show", address, "--json").out)["id"] == job
        assert {each["job_id"] for each in json.loads(provision("runs", address, "--json").out)} == {job}
        assert json.loads(provision("status", address, "--json").out)["run"]["id"] == latest
    assert provision("schedule", f"{PAGE}/job/{job}", "@daily").code == 0
    assert provision("stop", "--job", f"{PAGE}/job/{job}", "--yes").err == "no unfinished runs\n"
    assert provision("start", f"{PAGE}/job/{job}", "--wait").code == 0


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        (("start", f"{PAGE}/run/{'0' * 32}"), "a job: give https://HOST/job/ID"),
        (("status", f"{PAGE}/queue"), "a run or job: give https://HOST/run/ID or https://HOST/job/ID"),
        (("status", "http://[::1/run/1f3c"), "a run or job: give https://HOST/run/ID or https://HOST/job/ID"),
    ],
)
def test_other_address_is_refused(provision: Provision, words: tuple[str, ...], kinds: str) -> None:
    done = provision(*words)
    assert (done.code, f"{words[1]} is not the address of {kinds}" in done.err) == (exits.INVALID, True), done.err


def test_unknown_id_of_an_address_is_not_found(provision: Provision) -> None:
    unknown = "ab" * 16
    done = provision("status", f"{PAGE}/run/{unknown}")
    assert (done.code, f"no run '{unknown}'" in done.err) == (exits.NOT_FOUND, True)
    assert provision("status", f"{PAGE}/run/..%2f..%2fapi%2fserver").code == exits.NOT_FOUND


def test_job_without_runs_is_named_by_its_address(provision: Provision, recipe: Callable[..., str]) -> None:
    job = json.loads(provision("apply", recipe("good-new"), "--json").out)["id"]
    done = provision("status", f"{PAGE}/job/{job}")
    assert (done.code, "has no runs" in done.err) == (exits.NOT_FOUND, True)


def test_open_prints_the_address(
    provision: Provision, whole: Rig, started: Callable[[str], tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, run = started("good-open")
    base = _set_page(whole, monkeypatch)
    assert provision("open", run[:8]).out.decode() == f"{base}/run/{run}\n"
    assert provision("open", "good-open").out.decode() == f"{base}/job/{job}\n"
    assert provision("open", f"{PAGE}/run/{run}").out.decode() == f"{base}/run/{run}\n"
    assert json.loads(provision("open", "--json").out) == {"url": f"{base}/"}
    done = provision("open", "good-opne")
    assert (done.code, "no job or run 'good-opne'; did you mean good-open?" in done.err) == (exits.NOT_FOUND, True)


def test_name_of_a_job_that_is_also_the_beginning_of_an_id_is_not_opened(
    provision: Provision,
    whole: Rig,
    started: Callable[[str], tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, run = started("good-either")
    started(run[:6])
    _set_page(whole, monkeypatch)
    done = provision("open", run[:6])
    assert (done.code, run in done.err) == (exits.INVALID, True)


def test_browser_opens_only_on_the_terminal_of_a_desktop(
    provision: Provision, whole: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    base = _set_page(whole, monkeypatch)
    for name in ("WAYLAND_DISPLAY", "BROWSER", "DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    provision("open")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("DISPLAY")
    provision("open")
    monkeypatch.setenv("DISPLAY", ":0")
    provision("open", "--print")
    provision("open", "--json")
    assert opened == []
    assert provision("open").code == 0
    assert opened == [f"{base}/"]


@HERE
def test_open_without_a_known_address_says_where_to_write_it(provision: Provision) -> None:
    done = provision("open")
    assert (done.code, "set `page_url` in the settings" in done.err) == (exits.INVALID, True)


def _set_page(whole: Rig, patch: pytest.MonkeyPatch) -> str:
    """Write the page's address into the settings; return it, or the server's address if the commands use a server."""
    import os

    if server := os.environ.get("PROVISION_URL"):
        return server
    path = settings_file(whole)
    patch.setenv("PROVISION_SETTINGS", str(path.with_name("with-page.toml")))
    path.with_name("with-page.toml").write_text(f'page_url = "{PAGE}/"\n{path.read_text()}')
    return PAGE
