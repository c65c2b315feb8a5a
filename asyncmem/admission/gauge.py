"""One bound as admission sees it: what is used of it, what of that beside the tasks in flight, and its guard band.

The guard band widens by itself where memory keeps growing between two samples by more than anything explains. Where the
bound cannot be read, the last reading stands, and `is_blind` says so.

Not here: what follows from all bounds together (`headroom`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asyncmem.units import MIB, parse_bytes

if TYPE_CHECKING:
    from asyncmem.limits import Bound

__all__ = ["Gauge", "guard_band"]

_ENVELOPE_SECONDS: Final = 1.0
"""The envelope is the least of this period and of the one before."""
_SURPRISE_SAMPLES: Final = 10_000
"""Samples after which a surprise is forgotten: a minute or two under load."""
_SURPRISE_RANK: Final = 1000
"""One surprise in so many samples is let pass, the first one always: the guard band follows their 99.9th centile."""
_SURPRISE_SHARE: Final = 4
"""The guard band widens to at most this fraction of the limit."""
_GUARD_SHARE: Final = 20
_GUARD_LEAST: Final = 64 * MIB
_GUARD_SMALL_SHARE: Final = 8


def guard_band(limit: int, configured: int | str | None = None) -> int:
    """Bytes to keep free below a limit.

    By default 5 % of the limit, and at least 64 MiB or an eighth of the limit, whichever is less: so 32 MiB of a
    container of 256 MiB, which stays usable, 64 MiB from 512 MiB on, and 5 % above 1.25 GiB.

    Args:
        limit: Bytes.
        configured: Bytes or a share of the limit that the user has set instead.

    Returns:
        Bytes, less than the limit.
    """
    if configured is not None:
        return min(parse_bytes(configured, of=limit), limit - 1)
    return max(limit // _GUARD_SHARE, min(_GUARD_LEAST, limit // _GUARD_SMALL_SHARE))


class Gauge:
    """One bound: its capacity, its floor, and what is used beside the tasks in flight. Called under the gate's lock.

    Args:
        bound: The limit and its meter.
        guard: Bytes to keep free below the limit.
        now: Monotonic seconds.
        last: Bytes in use at the last reading that did not fail; None to read now.
    """

    __slots__ = (
        "_guard",
        "_lower",
        "_lower_before",
        "_samples",
        "_since",
        "_surprises",
        "base",
        "bound",
        "capacity",
        "floor",
        "guard",
        "is_blind",
        "is_lowered",
        "last",
        "unreadable",
        "used",
    )

    def __init__(self, bound: Bound, guard: int, now: float, last: int | None = None) -> None:
        self.bound = bound
        self._guard = self.guard = guard
        """Bytes kept free below the limit."""
        self.capacity = bound.limit - guard
        """Bytes below the guard band."""
        self._samples = 0
        self._surprises: list[tuple[int, float]] = []
        self.is_blind = False
        """The last reading failed."""
        self.is_lowered = False
        """The limit was lowered, and what work in flight was admitted to may be beyond it."""
        self.unreadable = 0
        """Readings that failed."""
        self.last = bound.meter.used() if last is None else last
        """Bytes in use at the last reading that did not fail."""
        self.used = self.read()
        """Bytes in use at the last sample."""
        self.settle(now, self.used)

    def read(self) -> int:
        """Bytes in use; where they cannot be read, the last ones that could."""
        try:
            self.last = self.bound.meter.used()
        except Exception:  # noqa: BLE001 - whatever the meter does wrong, requests shall not fail by it
            self.is_blind = True
            self.unreadable += 1
        else:
            self.is_blind = False
        return self.last

    def settle(self, now: float, used: int) -> None:
        """Nothing is in flight: what is used now is used beside it."""
        self.floor = self.base = used
        self._lower = self._lower_before = used
        self._since = now

    def take_over(self, old: Gauge) -> None:
        """The bound is the same, with another limit: keep what is known of it."""
        self.floor, self.base = old.floor, old.base
        # Where the kernel does not kill, work that is beyond the limit is let go on.
        self.is_lowered = self.bound.kills and (self.bound.limit < old.bound.limit or old.is_lowered)
        self.unreadable += old.unreadable
        self._samples, self._surprises = old._samples, old._surprises
        self._lower, self._lower_before, self._since = old._lower, old._lower_before, old._since

    def measure(self, reserved: int, to_come: float) -> None:
        """Read what is used, and widen the guard band where that is more than promises and learning explain."""
        before, self.used = self.used, self.read()
        self._samples += 1
        surprise = self.used - max(before + to_come, self.base + reserved)
        if surprise > self._guard:
            self._surprises.append((self._samples, surprise))
        if self._surprises:
            self._widen()

    def _widen(self) -> None:
        oldest = self._samples - _SURPRISE_SAMPLES
        self._surprises = [entry for entry in self._surprises[-_SURPRISE_RANK:] if entry[0] > oldest]
        largest = sorted((surprise for _, surprise in self._surprises), reverse=True)
        rank = max(1, min(self._samples, _SURPRISE_SAMPLES) // _SURPRISE_RANK)
        wide = int(largest[rank]) if rank < len(largest) else 0
        self.guard = max(self._guard, min(wide, self.bound.limit // _SURPRISE_SHARE))
        self.capacity = self.bound.limit - self.guard

    def observe(self, now: float, held: float, *, known: bool) -> None:
        """Take in the last sample; `known`: of all work in flight is known what it holds."""
        if not known:
            self.base = min(self.base, self.used)
            return
        beside = max(0, self.used - int(held))
        if now - self._since > _ENVELOPE_SECONDS:
            self._lower_before, self._lower, self._since = self._lower, beside, now
        elif beside < self._lower:
            self._lower = beside
        self.base = min(self._lower, self._lower_before, self.used)
