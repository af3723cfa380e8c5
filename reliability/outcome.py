"""What came of a scenario: figures, and the criteria that they must meet."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .attack import Attack, Function
from .load import Figures, Load
from .server import MEBIBYTE, Server

if TYPE_CHECKING:  # at run time it takes seconds, and each attack is a process that imports this module
    from .calls import CheckedCall

__all__ = ["SCENARIOS", "Context", "Outcome", "Scenario", "scenario"]

SLOW_FACTOR, SLOW_MILLISECONDS = 2.0, 50.0
"""The p99 of small requests may be so many times that without an attack, or so long."""


@dataclass
class Outcome:
    """Figures and criteria by name."""

    figures: dict[str, float | str] = field(default_factory=dict)
    criteria: dict[str, bool] = field(default_factory=dict)

    def note(self, **figures: float | str) -> None:
        """Add figures."""
        self.figures.update(figures)

    def require(self, criterion: str, *, holds: bool) -> None:
        """Add a criterion, and whether it holds."""
        self.criteria[criterion] = holds and self.criteria.get(criterion, True)

    @property
    def failed(self) -> list[str]:
        """The criteria that do not hold."""
        return [criterion for criterion, holds in self.criteria.items() if not holds]

    def conclude(self, program: str, before: Mapping[str, Any], file: Path | None) -> int:
        """Print it, write it to a file as JSON if there is one, and return the program's exit status.

        Parameters
        ----------
        program : str
        before : mapping of str to object
            The machine, as ``machine`` returned it before anything ran.
        file : Path, optional
        """
        for name, value in self.figures.items():
            print(f"{name}: {value}")
        for criterion, holds in self.criteria.items():
            print(f"{criterion}: {'yes' if holds else 'NO'}")
        if file:
            result = {"program": program, **before, "figures": self.figures, "criteria": self.criteria}
            file.write_text(json.dumps(result, indent=1) + "\n")
        return int(bool(self.failed))

    def note_load(self, prefix: str, figures: Figures) -> None:
        """Add the figures of a load."""
        times = {"p50": figures.percentile(0.5), "p99": figures.percentile(0.99), "max": figures.percentile(1)}
        self.note(**{f"{prefix}_{name}_ms": round(value, 1) for name, value in times.items()})
        self.note(**{f"{prefix}_{status}": count for status, count in sorted(figures.statuses.items())})
        for kind, counter in (("failures", figures.failures), ("wrong", figures.wrong)):
            if counter:
                self.note(**{f"{prefix}_{kind}": "; ".join(f"{n}x {what}" for what, n in counter.most_common(3))})

    def require_unharmed(self, idle: Figures, during: Figures, *, busy_is_allowed: bool = False) -> None:
        """Require of small requests that each was answered, rightly, and about as fast as without the attack."""
        self.note_load("idle", idle)
        self.note_load("attack", during)
        limit = max(SLOW_FACTOR * idle.percentile(0.99), SLOW_MILLISECONDS)
        self.require("p99 within twice idle or 50 ms", holds=during.percentile(0.99) <= limit)
        self.require_answered(during, busy_is_allowed=busy_is_allowed)

    def require_answered(self, figures: Figures, *, busy_is_allowed: bool = False) -> None:
        """Require that every request was answered, and rightly."""
        self.require("no request lost", holds=not figures.failures)
        self.require("no wrong answer", holds=not figures.wrong)
        if not busy_is_allowed:
            self.require("all answered 200", holds=set(figures.statuses) == {200})


@dataclass(frozen=True)
class Context:
    """What a scenario runs with.

    Parameters
    ----------
    seconds : float
        For which an attack goes on.
    folder : Path
        For the logs of servers.
    calls : sequence of CheckedCall
        Small ones.
    settings : mapping
        Settings of every server, which a scenario's own come before.
    """

    seconds: float
    folder: Path
    calls: Sequence[CheckedCall]
    settings: Mapping[str, object] = field(default_factory=dict)

    def server(self, open_files: int | None = None, **settings: object) -> Server:
        """Start a server."""
        return Server(self.folder / "server.log", open_files, **{**self.settings, **settings})

    def load(self, server: Server, clients: int = 4, pause: float = 0.01) -> Load:
        """Return a load of small calls."""
        return Load(server.port, self.calls, clients, pause)

    def beside(
        self,
        outcome: Outcome,
        server: Server,
        function: Function,
        *,
        seconds: float = 0.0,
        busy_is_allowed: bool = False,
        **options: Any,
    ) -> dict[str, float]:
        """Measure small requests without and beside an attack; return the attack's own figures.

        Afterwards, the server must be as it was.
        """
        with self.load(server) as load:
            load.run(min(1.0, self.seconds))  # warm-up
            idle = load.run(min(3.0, self.seconds))
            before = server.memory()
            server.forget_peak()
            with Attack(function, server.port, **options) as attack:
                during = load.run(seconds or self.seconds)
                outcome.note(mib_before=before // MEBIBYTE, mib_peak=server.peak_memory() // MEBIBYTE)
            after = load.run(min(1.0, self.seconds))
        outcome.note(**{name: round(value, 2) for name, value in attack.figures.items()})
        outcome.require_unharmed(idle, during, busy_is_allowed=busy_is_allowed)
        outcome.note_load("after", after)
        outcome.require("unharmed afterwards", holds=set(after.statuses) == {200} and not after.failures + after.wrong)
        outcome.require("still runs", holds=server.is_running())
        return attack.figures


@dataclass(frozen=True)
class Scenario:
    """One attack, and what must hold meanwhile."""

    name: str
    description: str
    run: Callable[[Context, Outcome], None]


SCENARIOS: dict[str, Scenario] = {}
"""By name, in the order in which they run."""


def scenario(run: Callable[[Context, Outcome], None]) -> Callable[[Context, Outcome], None]:
    """Add a function to the scenarios; the first line of its docstring says what is done."""
    name = run.__name__
    SCENARIOS[name] = Scenario(name, (run.__doc__ or "").splitlines()[0], run)
    return run
