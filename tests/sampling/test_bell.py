"""What the watcher's thread waits at."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import pytest

from asyncmem.sampling._bell import Bell, EventBell, PollBell, hang_bell

LONG = 60.0

both = pytest.mark.parametrize("make", [PollBell, EventBell])


class Pipe:
    """A listener to a pipe."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.heard = b""
        self.masks = {self.reader: select.POLLIN}

    def descriptors(self) -> Mapping[int, int]:
        """The reading end."""
        return self.masks

    def handle(self, ready: Sequence[tuple[int, int]]) -> bool:
        """Read it."""
        assert dict(ready) == {self.reader: select.POLLIN}
        self.heard += os.read(self.reader, 100)
        return True


@both
def test_a_ring_before_the_wait_ends_it_and_is_used_up(make: Callable[[], Bell]) -> None:
    """Nothing is lost between looking and waiting, and many rings are one."""
    bell = make()
    bell.ring()
    bell.ring()
    begin = time.monotonic()
    assert not bell.wait(LONG, None)
    assert not bell.wait(0.005, None)
    assert 0.005 <= time.monotonic() - begin < LONG
    bell.close()
    bell.close()


@both
def test_a_ring_from_another_thread_ends_the_wait(make: Callable[[], Bell]) -> None:
    """Whoever rings need not be the one who waits."""
    bell = make()
    thread = threading.Thread(target=bell.ring)
    thread.start()
    assert not bell.wait(LONG, None)
    thread.join()


def test_a_listener_is_heard_beside_the_bell() -> None:
    """One wait serves both; what is ready goes to the listener without the bell's own descriptor."""
    bell, pipe = PollBell(), Pipe()
    bell.ring()
    assert not bell.wait(LONG, pipe)
    os.write(pipe.writer, b"one")
    assert bell.wait(LONG, pipe)
    os.write(pipe.writer, b" two")
    bell.ring()
    assert bell.wait(LONG, pipe)
    assert pipe.heard == b"one two"
    pipe.masks = {}  # another object: it listens to nothing now
    os.write(pipe.writer, b"three")
    assert not bell.wait(0.0, pipe)
    for descriptor in (pipe.reader, pipe.writer):
        os.close(descriptor)


def test_a_closed_bell_rings_nowhere() -> None:
    """Its descriptor's number may be a stranger's by then."""
    bell = PollBell()
    number = bell._descriptor
    assert number is not None
    bell.close()
    bell.ring()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_dropping_a_bell_closes_it() -> None:
    """The thread that ends need not close what others may still ring."""
    bell = PollBell()
    number = bell._descriptor
    assert number is not None
    os.fstat(number)
    del bell
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_without_a_descriptor_there_is_still_a_bell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has used them all up is watched all the same, and so is one on another system."""
    assert isinstance(hang_bell(), PollBell)

    def refuse(_value: int, _flags: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "eventfd", refuse)
    assert isinstance(hang_bell(), EventBell)
    monkeypatch.delattr(os, "eventfd")
    assert isinstance(hang_bell(), EventBell)
