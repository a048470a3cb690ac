"""The installation's secret: made once, whole, for nobody else to read."""

from pathlib import Path

import pytest

from provisioner.adapters.keys import DerivedKeys
from provisioner.adapters.system import ThreadPool
from provisioner.core.errors import Misconfigured


def test_the_secret_is_made_on_first_need_and_once(tmp_path: Path) -> None:
    """By whoever is first of many at once: all have the same keys, and no other file is left."""
    file = tmp_path / "folder/store.key"
    made = ThreadPool().map(lambda _: DerivedKeys(file).public("run", 1), range(20))
    assert len(set(made)) == 1
    assert DerivedKeys(file).key("run", 1).public == made[0]
    assert DerivedKeys(file).public("run", 2) != made[0]
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    assert (file.stat().st_mode & 0o777, file.stat().st_size) == (0o600, 32)


def test_a_key_is_not_had_without_the_secret(tmp_path: Path) -> None:
    """None is made where machines have been launched by another; a file of ours that is not whole is no secret."""
    file = tmp_path / "store.key"
    with pytest.raises(Misconfigured, match="another control host"):
        DerivedKeys(file).key("run", 1)
    assert not file.exists()
    file.write_bytes(b"short")
    with pytest.raises(Misconfigured, match="5 bytes"):
        DerivedKeys(file).public("run", 1)
