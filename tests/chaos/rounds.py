"""One fault after the other, under load: break, heal, see it work again, settle, and compare with what must be true."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.chaos.arena import Arena, Stopwatch, until
from tests.chaos.faults import Broke, Fault
from tests.chaos.people import Load
from tests.chaos.truth import Truth

RECOVERED_WITHIN = 120.0


@dataclass
class Outcome:
    """What one fault did, over all times that it was tried."""

    fault: Fault
    times: int = 0
    load: Counter[str] = field(default_factory=Counter)
    recovered_in: float = 0.0
    settled_in: float = 0.0
    broke: list[str] = field(default_factory=list)

    @property
    def ends(self) -> int:
        return sum(self.load[what] for what in ("returned", "revoked", "withdrawn", "denied"))


class Rounds:
    def __init__(self, arena: Arena, load: Load) -> None:
        self._arena, self.load = arena, load
        self.truth = Truth(arena, load)
        self.outcomes: dict[str, Outcome] = {}
        self._why = ""

    def warm_up(self) -> None:
        """Nothing is broken yet, and all that is checked holds."""
        if not until(self._usable, RECOVERED_WITHIN):
            raise Broke(f"the product was not usable before anything was broken: {self._why}")
        if untrue := self.truth.untrue():
            raise Broke("before anything was broken: " + "; ".join(untrue))
        if not all(keys.worked for keys in self.load.memory.keys):
            raise Broke("before anything was broken nobody had keys that work")

    def run(self, fault: Fault) -> Outcome:
        """Break it and heal it while people work, then let everything come to rest and compare."""
        with self._going():
            outcome = self.survive(fault)
        watch = Stopwatch()
        outcome.broke += self.truth.settled(fault.settles_in)
        outcome.settled_in = max(outcome.settled_in, watch.seconds)
        self.truth.explain(fault.explains)
        outcome.broke += self.truth.untrue()
        return outcome

    def run_together(self, faults: list[Fault]) -> list[str]:
        """One after the other without a rest between them; what was wrong at any time or in the end."""
        with self._going():
            broken = [words for fault in faults for words in self.survive(fault).broke]
        return [*broken, *self.truth.settled(), *self.truth.untrue()]

    def survive(self, fault: Fault) -> Outcome:
        """Break it and heal it, and wait until somebody can use the product again."""
        outcome = self.outcomes.setdefault(fault.name, Outcome(fault))
        outcome.times += 1
        before = self.load.memory.so_far()
        self._arena.wait(1)
        try:
            fault.run(self._arena)
        except Broke as error:
            outcome.broke.append(str(error))
        except Exception as error:  # noqa: BLE001 - the other faults are tried all the same
            outcome.broke.append(f"{type(error).__name__}: {error}")
        if fault.forgets:
            self.truth.forget()
        watch = Stopwatch()
        if not until(self._usable, RECOVERED_WITHIN):
            outcome.broke.append(f"not usable {RECOVERED_WITHIN:.0f} s after it was healed: {self._why}")
        outcome.recovered_in = max(outcome.recovered_in, watch.seconds)
        outcome.load += self.load.memory.so_far() - before
        return outcome

    def last_look(self) -> list[str]:
        """When all is over: also what is proved only after a while."""
        return [*self.truth.settled(wholly=True), *self.truth.unproved(), *self.truth.untrue()]

    def _usable(self) -> bool:
        try:
            self._arena.use_once()
        except Exception as error:
            self._why = f"{type(error).__name__}: {error}"
            raise
        return True

    @contextlib.contextmanager
    def _going(self) -> Iterator[None]:
        self.load.go()
        try:
            yield
        finally:
            self.load.pause()
