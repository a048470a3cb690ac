"""The README tells the present: what can be compared with the code is."""

from pathlib import Path

from provisioner.core.run.states import TRANSITIONS
from provisioner.faces.cli import exits

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_state_diagram_is_the_transition_table() -> None:
    """Every edge, with its reason, and no other."""
    drawn = [line.strip() for line in README.splitlines() if "-->" in line]
    assert drawn == [f"{old} --> {new}: {reason}" for (old, new), reason in TRANSITIONS.items()]


def test_every_exit_code_is_told() -> None:
    """Each code that is ours stands in the table."""
    ours = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    for code in ours | set(exits.WITHOUT_EXIT_CODE.values()):
        assert f"| {code} |" in README, code
