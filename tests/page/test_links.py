"""Every link on every page leads to a page or a file of this server."""

import pytest

from tests.api.served import Server
from tests.page.conftest import visitor
from tests.page.every_page import READS, addresses, links_of
from tests.page.world import World, populate


@pytest.fixture(scope="module")
def world(site: Server) -> World:
    return populate(site)


@pytest.mark.parametrize("route", READS)
def test_links_lead_to_pages(site: Server, world: World, route: str) -> None:
    broken = {}
    with visitor(site, "root", admin=True) as admin:
        for address in addresses(world, route, "GET"):
            answer = admin.get(address.path)
            if answer.status_code == 200 and "html" in answer.headers["content-type"]:
                for link in links_of(answer.text):
                    # A file to download may be large.
                    with admin.client.stream("GET", link) as led:
                        # No filter can name the hostile owner.
                        if led.status_code > 400:
                            broken[address.path, link] = led.status_code
    assert broken == {}
