"""The table of transitions."""

from itertools import product

import pytest

from provisioner.core.run.states import TRANSITIONS, WITH_MACHINE, State, WrongTransition, transition


@pytest.mark.parametrize(("old", "new"), list(product(State, State)))
def test_a_run_goes_where_an_edge_leads_and_nowhere_else(old: State, new: State) -> None:
    """Staying in a state is always allowed; every other move must be in the table."""
    if old is new or (old, new) in TRANSITIONS:
        assert transition(old, new) is new
    else:
        with pytest.raises(WrongTransition):
            transition(old, new)


def test_stopping_is_the_only_way_to_done_and_done_is_the_end() -> None:
    """A run is done only after its machines' end, and a done run never begins again."""
    assert [old for old, new in TRANSITIONS if new is State.DONE] == [State.STOPPING]
    assert not [new for old, new in TRANSITIONS if old is State.DONE]


def test_every_state_can_end() -> None:
    """Every state has a way to `done`."""
    reach = {State.DONE}
    for _ in State:
        reach |= {old for old, new in TRANSITIONS if new in reach}
    assert reach == set(State)


def test_a_machine_lives_only_behind_a_launch() -> None:
    """States with a machine are entered from `launching`, or from one another."""
    assert {old for old, new in TRANSITIONS if new in WITH_MACHINE - {State.STOPPING}} - WITH_MACHINE == {
        State.LAUNCHING
    }
