"""The memory circuit breaker: no work while memory is short, a few probes when it may be enough again.

- `thresholds`: the bytes at which something changes, from bytes, shares of the limit, or headroom.
- `states`: one small type for each state; `circuit`: the state that holds now. Both are pure: no clock, lock or I/O.
- `measuring`: what is used of this process's limit, where nobody else says so.
- `breaker`: `CircuitBreaker`, the circuit with a lock, a clock and a meter.
- `passages`: one piece of work that passes; `section`: the lock.

`CircuitBreaker` is for use alone. Whoever has a lock, a clock and readings of their own, as admission has, drives a
`Circuit` with them; no work need pass through it::

    circuit = Circuit(Thresholds(open_at="100%"))              # of what it is told is the limit: the capacity
    ...
    state = circuit.read(used, capacity, now, in_flight=3)     # at every sample, under one's own lock
    if not state.is_closed: ...

With nothing in flight an open circuit is half-open at once, however much is in use, and stays so while no more than its
probes are: refusing all work while none runs would never end. And a half-open one closes by readings alone, when memory
has stayed low for as long as it was open before.

Does not cover how much each piece of work may use, nor waiting for memory: that is `asyncmem.admission`, which is to be
preferred wherever work can wait. A breaker only says no.
"""

from __future__ import annotations

from asyncmem.breaker.breaker import CircuitBreaker
from asyncmem.breaker.circuit import BreakerStatistics, Circuit
from asyncmem.breaker.passages import Passage
from asyncmem.breaker.states import Outcome
from asyncmem.breaker.thresholds import Lines, Thresholds

__all__ = ["BreakerStatistics", "Circuit", "CircuitBreaker", "Lines", "Outcome", "Passage", "Thresholds"]
