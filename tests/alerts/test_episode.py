"""One condition over time: what is told of it, whatever it does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncmem.alerts.episode import Episode, Fingerprints, Step
from asyncmem.events import AlertLevel, AlertState

INFO, WARNING, CRITICAL = AlertLevel
FIRING, ESCALATED, EASED, RESOLVED = AlertState
COOLDOWN = 30.0


@pytest.fixture
def episode() -> Episode:
    """A condition at rest."""
    return Episode("heat", Fingerprints(), COOLDOWN)


def test_a_condition_that_flaps_is_told_once(episode: Episode) -> None:
    """A thousand times on and off within the cooldown: it begins, and ends when it has been off for long enough."""
    told = [episode.move(WARNING if turn % 2 else None, turn * 0.1) for turn in range(1000)]
    told += [episode.move(None, 100.0 + turn) for turn in range(40)]
    assert [step.state for step in told if step is not None] == [FIRING, RESOLVED]


def test_it_rises_at_once_and_eases_where_it_has_stayed(episode: Episode) -> None:
    """No cooldown on the way up; on the way down, to a level above which it was not for the whole of it."""
    for level, state in ((INFO, FIRING), (WARNING, ESCALATED), (CRITICAL, ESCALATED)):
        step = episode.move(level, 0.0)
        assert step is not None
        assert step.state is state
    for seconds, lower in ((10.0, None), (29.0, WARNING), (31.0, None)):
        assert episode.move(lower, seconds) is None
    eased = episode.move(WARNING, 32.0)
    assert eased is not None
    assert (eased.state, eased.level, eased.levels) == (EASED, WARNING, frozenset({WARNING, CRITICAL}))
    assert episode.move(None, 61.9) is None
    resolved = episode.move(None, 62.0)
    assert resolved is not None
    assert (resolved.state, resolved.levels) == (RESOLVED, frozenset(AlertLevel))
    assert resolved.fingerprint == eased.fingerprint


def test_the_level_that_comes_back_begins_the_wait_anew(episode: Episode) -> None:
    """A single bad moment within the cooldown keeps it firing."""
    episode.move(WARNING, 0.0)
    for at, level in ((1.0, None), (30.0, WARNING), (31.0, None), (59.9, None)):
        assert episode.move(level, at) is None
    assert episode.move(None, 60.0) is not None


@given(
    looks=st.lists(st.tuples(st.sampled_from([None, INFO, WARNING, CRITICAL]), st.floats(0, 20)), max_size=80),
    cooldown=st.sampled_from([0.0, 5.0, 30.0]),
)
def test_whatever_comes_it_is_told_in_order(looks: list[tuple[AlertLevel | None, float]], cooldown: float) -> None:
    """Begin, then up and down, then the end; never below what it is; a begin at most once per cooldown."""
    fingerprints, now, told = Fingerprints(), 0.0, list[Step]()
    episode = Episode("heat", fingerprints, cooldown)
    for at, seconds in looks:
        now += seconds
        step = episode.move(at, now)
        if step is not None:
            told.append(step)
        assert at is None or (episode.level is not None and episode.level.severity >= at.severity)
        if step is not None and step.state is RESOLVED:
            episode = Episode("heat", fingerprints, cooldown)
    legal = {step.fingerprint: (AlertState.RESOLVED, 0) for step in told}
    for step in told:
        state, severity = legal[step.fingerprint]
        if step.state is FIRING:
            assert state is RESOLVED
        else:
            rise = step.level.severity - severity
            assert {ESCALATED: rise > 0, EASED: rise < 0, RESOLVED: rise == 0}[step.state]
        legal[step.fingerprint] = (step.state, step.level.severity)
    assert [step.state is FIRING for step in told].count(True) == len(legal), "no fingerprint is used twice"
    assert (told[-1].state is RESOLVED if told else True) == (episode.level is None)
    if cooldown:
        assert len(legal) <= 1 + now / cooldown
