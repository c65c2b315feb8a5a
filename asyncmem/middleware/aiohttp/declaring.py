"""What a handler needs, as its author declares it, and what follows for the requests of its route."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from aiohttp import web

from asyncmem.admission import Priority, check_deadline, checked_priority
from asyncmem.errors import ConfigError
from asyncmem.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    CostOf = Callable[[web.Request], float | str | None]
    PriorityOf = Callable[[web.Request], Priority | None]
    SizeOf = Callable[[web.Request], float | None]

__all__ = ["EXEMPT", "Declaration", "Plan", "Plans", "admission"]

EXEMPT: Final = ("/livez", "/readyz", "/healthz", "/metrics", "/dashboard")
"""Paths, with all below them, that need no memory admission."""

F = TypeVar("F", bound="Callable[..., Any]")
_DECLARATION: Final = "__asyncmem_admission__"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods whose requests may be repeated without harm (RFC 9110, 9.2.1)."""
_LARGEST: Final = 2**63 - 1


class Declaration(NamedTuple):
    """What `admission` was given for one handler, or `setup` for all; None leaves it open."""

    cost: int | CostOf | None = None
    priority: Priority | PriorityOf | None = None
    deadline: float | None = None
    size: SizeOf | None = None
    cancellable: bool | None = None


class Plan(NamedTuple):
    """What is to be done with the requests of one route."""

    method: str
    task_class: str
    cost: int | CostOf | None
    priority: Priority | PriorityOf
    deadline: float | None
    size: SizeOf | None
    cancellable: bool | None

    @property
    def is_plain(self) -> bool:
        """Whether nothing about a request matters for its admission: nothing is declared, and it has no body."""
        return self.cost is None and self.priority is Priority.NORMAL and self.size is None and self.method in _SAFE

    def cost_of(self, request: web.Request) -> int | str | None:
        """The declared cost of a request; None where it is learned."""
        return _whole(self.cost(request)) if callable(self.cost) else self.cost

    def priority_of(self, request: web.Request) -> Priority:
        """The priority of a request."""
        priority = self.priority(request) if callable(self.priority) else self.priority
        return Priority.NORMAL if priority is None else priority

    def size_of(self, request: web.Request) -> float:
        """The size of a request's input: as declared, else the length of its body; 0 where nobody knows."""
        if self.size is not None:
            declared = self.size(request)
            return 0.0 if declared is None or not 0 <= declared < math.inf else declared
        return float(request.content_length or 0) if request.body_exists else 0.0

    def may_be_cancelled(self, request: web.Request) -> bool:
        """Whether a request may be ended to free its memory: as declared, else what is safe to repeat."""
        return request.method in _SAFE if self.cancellable is None else self.cancellable


def admission(
    *,
    cost: int | str | CostOf | None = None,
    priority: Priority | PriorityOf | None = None,
    deadline: float | None = None,
    size: SizeOf | None = None,
    cancellable: bool | None = None,
) -> Callable[[F], F]:
    """Declare what one handler (or class-based view) needs.

    Args:
        cost: Bytes, or a function of the request that says how many (None: learned).
        priority: The priority, or a function of the request.
        deadline: Seconds within which the request must start; then it is refused.
        size: A function of the request that gives the size of its input, such as the items of a list; costs are
            learned per size. None: the length of the body.
        cancellable: Whether a request may be cancelled to free its memory. None: GET, HEAD and OPTIONS may.

    Raises:
        ConfigError: A value that cannot be.
    """
    declaration = checked(cost, priority, deadline, size, cancellable=cancellable)

    def declare(handler: F) -> F:
        try:
            setattr(handler, _DECLARATION, declaration)
        except AttributeError:
            raise ConfigError(
                f"admission: got {handler!r}, which takes no declaration; decorate the function where it is defined"
            ) from None
        return handler

    return declare


def checked(
    cost: int | str | CostOf | None,
    priority: Priority | PriorityOf | None,
    deadline: float | None = None,
    size: SizeOf | None = None,
    *,
    cancellable: bool | None = None,
) -> Declaration:
    """A declaration of values that can be.

    Raises:
        ConfigError: One that cannot.
    """
    if deadline is not None:
        check_deadline(deadline)
    return Declaration(
        cost if cost is None or callable(cost) else parse_bytes(cost),
        priority if priority is None or callable(priority) else checked_priority(priority),
        deadline,
        size,
        cancellable,
    )


class Plans:
    """Makes the plans of an application's routes.

    Args:
        default: What holds where a handler declares nothing.
        exempt: Paths, with all below them, that are not guarded.

    Raises:
        ConfigError: `exempt` is no list of paths.
    """

    def __init__(self, default: Declaration, exempt: Iterable[str]) -> None:
        if isinstance(exempt, str):
            raise ConfigError(f"exempt: got the text {exempt!r}; expected a list of paths, for example [{exempt!r}]")
        self._default = default
        self._exempt = tuple(path.rstrip("/") or "/" for path in exempt)  # "/" is the root alone, not all below it

    def of(self, route: web.AbstractRoute) -> Plan | None:
        """What to do with a route's requests; None to leave them alone."""
        resource = route.resource
        path = "" if resource is None else resource.canonical
        if any(path == prefix or path.startswith(prefix + "/") for prefix in self._exempt):
            return None
        own: Declaration = getattr(route.handler, _DECLARATION, Declaration())
        default = self._default
        return Plan(
            method=route.method,
            task_class=f"{route.method} {path}",
            cost=default.cost if own.cost is None else own.cost,
            priority=next((p for p in (own.priority, default.priority) if p is not None), Priority.NORMAL),
            deadline=default.deadline if own.deadline is None else own.deadline,
            size=default.size if own.size is None else own.size,
            cancellable=default.cancellable if own.cancellable is None else own.cancellable,
        )


def _whole(cost: float | str | None) -> int | str | None:
    """What a function of the request has worked out, possibly from a length that the client made up."""
    if cost is None or isinstance(cost, str) or not math.isfinite(cost):
        return None if isinstance(cost, float) else cost
    return min(int(cost), _LARGEST)
