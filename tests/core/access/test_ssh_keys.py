"""SSH keys derived from the installation's secret; they are never stored."""

from provisioner.core.access.ssh_keys import seed


def test_each_attempt_has_a_key_of_its_own_and_always_the_same() -> None:
    """The seed depends on secret, run and attempt, and equals the seed that earlier versions derived."""
    secret = bytes(range(32))
    assert seed(secret, "run", 1) == seed(secret, "run", 1)
    assert (
        len({seed(secret, "run", 1), seed(secret, "run", 2), seed(secret, "other", 1), seed(bytes(32), "run", 1)}) == 4
    )
    assert seed(secret, "run", 1).hex() == "586e55da1a5cb777506347e933cd01a1da7c8198e7387a053b11230adb277aae"
