"""The page of a log without JavaScript: which log it shows, and links to all of it."""

import re

import pytest

from provisioner.core.protocol.words import Outcome
from tests.api.served import Server
from tests.page.conftest import Visitor, visitor
from tests.page.planted_logs import PlantedLog, numbered


def shown(page: str) -> list[int]:
    """Return the numbers of the lines that a page shows."""
    return [int(number) for number in re.findall(r'<li id="\w+:L(\d+)"', page)]


def links(page: str) -> dict[str, str]:
    """Return the addresses of a page's links by their text."""
    found = re.findall(r'<a [^>]*?href="([^"]*)"[^>]*>([^<]*)</a>', page)
    return {text: address.replace("&amp;", "&") for address, text in found}


@pytest.fixture(scope="module")
def long_log(site: Server) -> PlantedLog:
    log = PlantedLog(site)
    log.begin()
    log.write(numbered(1, 2345))
    log.end()
    return log


def test_page_shows_the_last_lines_and_leads_to_all_others(site: Server, long_log: PlantedLog) -> None:
    with visitor(site, "ann") as ann:
        page, seen = ann.get(long_log.path).text, list[int]()
        while True:
            seen = shown(page) + seen
            if "Earlier lines" not in (found := links(page)):
                break
            page = ann.get(found["Earlier lines"]).text
        assert sorted(set(seen)) == list(range(1, 2346))
        assert shown(ann.get(links(ann.get(long_log.path).text)["First lines"]).text)[0] == 1


def test_first_line_of_an_address_is_shown_with_its_block(site: Server, long_log: PlantedLog) -> None:
    """Blocks of the script begin at multiples of 100, so a page does too."""
    with visitor(site, "ann") as ann:
        numbers = shown(ann.get(f"{long_log.path}?stream=output&attempt=1&rank=0&first=1234").text)
    assert numbers == list(range(1201, 1701))


def test_search_without_script_finds_lines_and_links_to_them(site: Server, long_log: PlantedLog) -> None:
    with visitor(site, "ann") as ann:
        page = ann.get(f"{long_log.path}?q=LINE+2000").text
        assert "first=1990#output:L2000" in page
        assert "Not found." in ann.get(f"{long_log.path}?q=LINE+2000&case=1").text
        more = ann.get(f"{long_log.path}?q=line").text
        assert "101" in links(ann.get(links(more)["Search on"]).text)


def test_newest_stream_with_bytes_is_shown(site: Server) -> None:
    log = PlantedLog(site, "newest")
    with visitor(site, "ann") as ann:
        page = ann.get(log.path).text
        assert "The run has no machine, so it has no log." in page
        assert 'data-state="waiting"' in page
        log.begin()
        for stream in ("system", "setup", "output"):
            log.write(b"one\n", stream)
            assert f'data-stream="{stream}"' in ann.get(log.path).text
        log.end(1, Outcome.INTERRUPTED, last=False)
        log.begin(2)
        log.write(b"two\n", "system", 2)
        page = ann.get(log.path).text
        assert 'data-stream="system" data-attempt="2"' in page
        # The first attempt stays one link away, with how it ended.
        assert "interrupted in a test" in page
        assert "one" in ann.get(links(page)["Attempt 1"].replace("system", "output")).text


def test_each_rank_of_a_gang_has_its_log(site: Server) -> None:
    log = PlantedLog(site, "gang", scale=3)
    log.begin()
    for rank in range(3):
        log.write(b"I am rank %d\n" % rank, rank=rank)
    with visitor(site, "ann") as ann:
        page = ann.get(f"{log.path}?rank=2").text
        assert "I am rank 2" in page
        assert '<option value="2" selected>2: command</option>' in page
        assert ann.get(f"{log.path}?rank=3").status_code == 404


@pytest.mark.parametrize("query", ["stream=records", "attempt=x", "attempt=0", "rank=-1", "first=0", f"first={10**30}"])
def test_wrong_parameter_is_explained(site: Server, long_log: PlantedLog, query: str) -> None:
    with visitor(site, "ann") as ann:
        answer = ann.get(f"{long_log.path}?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.text


def test_log_of_another_owner_is_not_found(site: Server, long_log: PlantedLog) -> None:
    with visitor(site, "bob") as bob:
        assert bob.get(long_log.path).status_code == bob.get(f"{long_log.path}/parts/places").status_code == 404


def test_list_of_places_is_over_with_the_run(site: Server, long_log: PlantedLog) -> None:
    def answer(ann: Visitor, log: PlantedLog) -> str | None:
        found: str | None = ann.get(f"{log.path}/parts/places").headers.get("x-over")
        return found

    with visitor(site, "ann") as ann:
        assert answer(ann, long_log) == "1"
        assert answer(ann, PlantedLog(site, "waiting")) is None
