"""The installation's secret file: made once, written atomically, and readable by its owner only."""

from pathlib import Path

import pytest

from provisioner.adapters.keys import DerivedKeys
from provisioner.adapters.system import ThreadPool
from provisioner.core.errors import Misconfigured


def test_the_secret_is_made_on_first_need_and_once(tmp_path: Path) -> None:
    """Of many simultaneous callers one makes the secret: all get the same keys, and no other file is left."""
    file = tmp_path / "folder/store.key"
    made = ThreadPool().map(lambda _: DerivedKeys(file).public("run", 1), range(20))
    assert len(set(made)) == 1
    assert DerivedKeys(file).key("run", 1).public == made[0]
    assert DerivedKeys(file).public("run", 2) != made[0]
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    assert (file.stat().st_mode & 0o777, file.stat().st_size) == (0o600, 32)


def test_key_raises_when_the_secret_is_missing_or_truncated(tmp_path: Path) -> None:
    """key() never makes a new secret, since machines were launched with the old one. A truncated file is an error."""
    file = tmp_path / "store.key"
    with pytest.raises(Misconfigured, match="control host that launched"):
        DerivedKeys(file).key("run", 1)
    assert not file.exists()
    file.write_bytes(b"short")
    with pytest.raises(Misconfigured, match="5 bytes"):
        DerivedKeys(file).public("run", 1)
