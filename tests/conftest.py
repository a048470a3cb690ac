"""Give every test a clean environment, and block connections to other computers."""

import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

#: A developer's account, proxy, git hook or running job must not reach a test.
_LEAKING = re.compile("AWS_|PROVISION_|SATURN_|BOTO|GIT_|RUN_ID$|JOB_NAME$|(https?|all|no)_proxy$", re.IGNORECASE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="try fewer random examples and worlds")


def pytest_configure(config: pytest.Config) -> None:
    """Clean the environment before any import and before any fixture is made."""
    for name in [name for name in os.environ if _LEAKING.match(name)]:
        del os.environ[name]
    # In this zone, code that reads local time where UTC is meant is wrong by 5:45 h.
    os.environ["TZ"] = "Asia/Kathmandu"
    time.tzset()
    # No deadline: a shared computer may stall. No example database: a failing example belongs in a test.
    settings.register_profile("whole", deadline=None, database=None)
    settings.register_profile("fast", deadline=None, database=None, max_examples=10)
    settings.load_profile("fast" if config.getoption("--fast") else "whole")
    sys.addaudithook(_loopback_only)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give tests that share a fixture of their module to one worker (xdist's `loadgroup`), which makes it only once."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        # pytest has no public API for the scopes of a test's fixtures.
        fixtures = getattr(item, "_fixtureinfo", None)
        if fixtures and any(one.scope == "module" for found in fixtures.name2fixturedefs.values() for one in found):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0].replace("/", ".")))


def _loopback_only(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "socket.connect" or not isinstance(arguments[1], tuple):
        return
    host = str(arguments[1][0])
    if not (host.startswith("127.") or host in ("::1", "localhost", "0.0.0.0")):
        raise RuntimeError(f"a test tried to reach {host}")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty home folder, so that a test reads no user's configuration and writes to no user's home."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(folder))
    for name in [name for name in os.environ if name.startswith("XDG_")]:
        monkeypatch.delenv(name)
    return folder
