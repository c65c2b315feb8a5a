"""What must be forgotten in the child after a fork.

A descriptor of ``/proc/self`` opened before the fork reads the *parent* in the child, a thread does not exist there,
and a lock that another thread held at that moment stays locked for ever. So whatever keeps one of them asks here to be
told. Checking the process id instead would cost a system call at every reading; this costs nothing until a fork.

Covers forks that run Python's hooks (`os.fork`, multiprocessing, gunicorn, uWSGI). Does not cover a C library that
forks behind the interpreter's back and goes on running Python.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["Inherited", "forget_after_fork"]


class Inherited(Protocol):
    """Something that holds what a child must not use."""

    def after_fork(self) -> None:
        """Forget it; called in the child, where no other thread runs. Must not raise."""
        ...


_holders: weakref.WeakSet[Inherited] = weakref.WeakSet()
_hooked = False


def forget_after_fork(holder: Inherited) -> None:
    """Call `holder.after_fork()` in every child from now on; `holder` is kept weakly."""
    global _hooked  # noqa: PLW0603 - one hook for the process, and none before something needs it
    _holders.add(holder)
    if not _hooked:
        _hooked = True
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    for holder in list(_holders):
        holder.after_fork()
