"""How many bytes work is charged: what it declares or what was learned of it, and never more than there is.

Called under the gate's lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncmem.admission.gate import Gate
    from asyncmem.admission.headroom import Headroom
    from asyncmem.admission.learning import TaskCosts
    from asyncmem.admission.refusals import Refusals

__all__ = ["Pricing"]

_PROBE_SECONDS: Final = 10.0
"""Work that has outgrown all there is, as was learned, is tried again after this time at the latest."""
_PROBES: Final = 100
"""Classes that are tried one by one; more are not kept apart."""


class Pricing:
    """Puts a price on work.

    Args:
        headroom: Says how much there can be.
        gate: Says whether anything is in flight.
        refusals: Makes the refusals of what can never fit.
        clock: Monotonic seconds.
        operation_limit: The most that one permit may reserve, in bytes; None for all there is.
    """

    __slots__ = ("_clock", "_gate", "_headroom", "_operation_limit", "_refusals", "probes")

    def __init__(
        self,
        headroom: Headroom,
        gate: Gate,
        refusals: Refusals,
        *,
        clock: Callable[[], float],
        operation_limit: int | None,
    ) -> None:
        self._headroom = headroom
        self._gate = gate
        self._refusals = refusals
        self._clock = clock
        self._operation_limit = operation_limit
        self.probes: dict[str, float] = {}
        """Classes that have outgrown all there is, and when each may be tried again."""

    def declared(self, task_class: str, nbytes: int) -> int:
        """Bytes to charge for a declared cost.

        Raises:
            AdmissionRejected: It can never be admitted.
        """
        if self._operation_limit is not None and nbytes > self._operation_limit:
            raise self._refusals.too_large(task_class, nbytes, min(self._headroom.most(), self._operation_limit))
        charged = self._at_most_all(nbytes)
        if charged < nbytes and self._headroom.can_never_fit(nbytes):
            raise self._refusals.too_large(task_class, nbytes, self._headroom.most())
        return charged

    def declared_waiting(self, nbytes: int) -> int:
        """The same for one that waits: where it can no longer fit, it is not made to."""
        charged = self._at_most_all(nbytes)
        return nbytes if charged < nbytes and self._headroom.can_never_fit(nbytes) else charged

    def learned(self, task_class: str, known: TaskCosts, size: float) -> int:
        """Bytes to charge where nothing was declared.

        Raises:
            AdmissionRejected: What was learned is more than there is, and it was tried a short while ago.
        """
        most = self._headroom.most()
        price = known.price(size, most)
        if 0 < price <= most and self._operation_limit is None:
            return price
        nbytes = self._clamped(price)
        if nbytes < price and not self._gate.in_flight and self._headroom.can_never_fit(price):
            self._probe(task_class, price)
        return nbytes

    def learned_waiting(self, known: TaskCosts, size: float) -> int:
        """The same for one that waits."""
        return self._clamped(known.price(size, self._headroom.most()))

    def survived(self, task_class: str) -> None:
        """Work of a class has ended well: where it had outgrown all there is, the next may be tried at once."""
        self.probes.pop(task_class, None)

    def _probe(self, task_class: str, price: int) -> None:
        """Let work through that has outgrown all there is, alone, and refuse it for a while unless it ends well."""
        now = self._clock()
        if now < self.probes.get(task_class, now):
            raise self._refusals.outgrown(task_class, price, self._headroom.most())
        if len(self.probes) >= _PROBES:
            self.probes = {name: due for name, due in self.probes.items() if due > now}
        if len(self.probes) < _PROBES:
            self.probes[task_class] = now + _PROBE_SECONDS

    def _clamped(self, price: int) -> int:
        if self._operation_limit is not None and price > self._operation_limit:
            price = self._operation_limit
        return self._at_most_all(price)

    def _at_most_all(self, nbytes: int) -> int:
        """What is larger than all there is runs alone, by taking all there is; nothing is free of charge."""
        most = self._headroom.most()
        if nbytes > most and not self._gate.in_flight:
            self._headroom.free(0, 0)
            most = self._headroom.most()
        return max(1, min(nbytes, most))
