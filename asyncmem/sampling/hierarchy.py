"""Where this process's memory cgroups are in the file system.

``/proc/self/cgroup`` says which group of each hierarchy the process is in, ``/proc/self/mountinfo`` where the
hierarchies are mounted. Joining the two is the difficulty: a container usually sees only a subtree, and then the
mount's *root* field says which one (``/docker/4f2a``), or the paths are relative to a cgroup namespace and may climb
out of it (``/../..``). So the root is taken off the path, and where that does not work out, the mount point itself is
taken for the process's own group: in a container it is.

Covers version 1, version 2 and both side by side. Does not look into the directories: `cgroup` reads them,
`asyncmem.limits` decides what they mean.
"""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import Final, Literal, NamedTuple

__all__ = ["Hierarchy", "find_hierarchies"]

_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
_DELETED: Final = " (deleted)"
"""What the kernel appends to the path of a group that was removed."""


class Hierarchy(NamedTuple):
    """A memory hierarchy that is mounted, and the process's way through it."""

    version: Literal[1, 2]
    mount_point: str
    """Where it is mounted, below the injected root."""
    directories: tuple[str, ...]
    """The process's own group first, then its ancestors, the mount point last. They need not all exist."""

    def name_of(self, directory: str) -> str:
        """A directory as people know it: its path below the mount point, ``/`` for that itself."""
        return directory.removeprefix(self.mount_point) or "/"


class _Mount(NamedTuple):
    root: str
    point: str
    kind: str
    options: str


def find_hierarchies(cgroup: str, mountinfo: str, *, fs_root: str = "/") -> list[Hierarchy]:
    """Join the two files; version 2 comes first.

    Args:
        cgroup: Text of ``/proc/self/cgroup``.
        mountinfo: Text of ``/proc/self/mountinfo``.
        fs_root: Where the paths of `mountinfo` begin.

    Returns:
        At most one of each version: version 1 only where it has the memory controller. Whether version 2 has it, its
        directories tell.
    """
    mounts = [mount for line in mountinfo.splitlines() if (mount := _mount(line)) is not None]
    found = []
    for line in cgroup.splitlines():
        number, _, rest = line.partition(":")
        controllers, separator, path = rest.partition(":")
        if not separator:
            continue
        path = path.removesuffix(_DELETED)
        if number == "0" and not controllers:
            candidates = [mount for mount in mounts if mount.kind == "cgroup2"]
            found.append(_locate(2, path, candidates, fs_root))
        elif "memory" in controllers.split(","):
            candidates = [m for m in mounts if m.kind == "cgroup" and "memory" in m.options.split(",")]
            found.append(_locate(1, path, candidates, fs_root))
    return sorted((hierarchy for hierarchy in found if hierarchy is not None), key=lambda h: -h.version)


def _mount(line: str) -> _Mount | None:
    # 31 23 0:28 /root /mount/point rw,relatime shared:9 - cgroup2 device rw
    before, separator, after = line.partition(" - ")
    left, right = before.split(" "), after.split(" ")
    if not separator or len(left) < 5 or len(right) < 3:  # noqa: PLR2004 - up to the mount point, all behind the dash
        return None
    return _Mount(_unescape(left[3]), _unescape(left[4]), right[0], right[2])


def _unescape(path: str) -> str:
    r"""Undo the kernel's ``\040`` for a space (and tab, newline, backslash); what is not ASCII comes as it is."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), path)


def _locate(version: Literal[1, 2], path: str, mounts: list[_Mount], fs_root: str) -> Hierarchy | None:
    if not mounts:
        return None
    placed = [(mount, _below(mount.root, path)) for mount in mounts]
    # The mount that shows most of the hierarchy shows most ancestors.
    fitting = sorted((pair for pair in placed if pair[1] is not None), key=lambda pair: len(pair[0].root))
    hierarchies = [
        _climb(version, os.path.join(fs_root, mount.point.lstrip("/")).rstrip("/"), relative or ())  # noqa: PTH118
        for mount, relative in (fitting or placed[:1])
    ]
    return next((one for one in hierarchies if os.path.isdir(one.directories[0])), hierarchies[0])  # noqa: PTH112


def _below(root: str, path: str) -> tuple[str, ...] | None:
    """The names that lead from a mount's root to a group; None where the mount does not show the group."""
    if not PurePosixPath(path).is_relative_to(root):
        return None
    names = PurePosixPath(path).relative_to(root).parts
    return None if ".." in names else names


def _climb(version: Literal[1, 2], point: str, names: tuple[str, ...]) -> Hierarchy:
    chain = ["/".join((point, *names[:depth])) for depth in range(len(names), -1, -1)]
    return Hierarchy(version, point, tuple(chain))
