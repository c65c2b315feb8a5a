"""What can be made smaller: caches, models, tables, whatever is kept only to be quick.

A cache knows what it can spare and the runtime knows when; this is all that they say to each other. `Reclaim.add` takes
one in, and from then on what it gives back is measured, its errors are counted and its time is capped like any other
reclaimer's. The caches of `asyncmem.caches` are shrinkable; so is what a user writes in five lines::

    class Thumbnails:
        name, essential = "thumbnails", False

        def shrink(self, level: PressureLevel) -> int | None:
            keep = {"low": 1.0, "medium": 0.5}.get(level, 0.0)
            with self._lock:
                ...

Does not cover when it is asked (`actions`, `worker`).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from asyncmem.events import PressureLevel

__all__ = ["Shrinkable"]


@runtime_checkable
class Shrinkable(Protocol):
    """Something that can give memory back and be used all the same. Supplied by users too."""

    @property
    def name(self) -> str:
        """For people and for statistics; read once, when it is added."""
        ...

    @property
    def essential(self) -> bool:
        """Whether it is dear to fill again, such as a model that must be loaded; read once, when it is added.

        What is essential is told no more than `MEDIUM` while pressure is `HIGH`, and at `CRITICAL` comes last: only
        where the others have not given enough.
        """
        ...

    def shrink(self, level: PressureLevel) -> int | None:
        """Give back what has no place at this level; `LOW` says that pressure is over, and that it may grow again.

        Called when a level begins, now and then while it lasts, and once with `LOW` afterwards; so it should say the
        same twice without harm. What each level means is its own business. As a rule: at `MEDIUM` what is cheap to
        make again (the older half of a cache), at `HIGH` all that is not essential, at `CRITICAL` all.

        It is called from a thread of the runtime's and never from an event loop, so it must be safe to call from any
        thread while others use it. What it raises is counted and stops nothing; the slower it is, the less often it is
        called.

        Returns:
            Bytes that were given back, as far as it knows; None where only a measurement can tell; 0 where there was
            nothing to give.
        """
        ...
