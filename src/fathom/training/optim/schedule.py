"""The learning rate over time, as a factor of the recipe's rate."""

from __future__ import annotations

import math
from typing import Any

from fathom.training.recipe import ScheduleSection

_RISE = 0.3
"""Share of the steps in which the one-cycle rate rises (Smith & Topin 2018 take a little less than half)."""
_START = 1 / 25
"""One-cycle's first factor."""


def warmup(step: int, steps: int) -> float:
    """Linear rise: ``(step + 1) / steps`` up to 1."""
    return min(1.0, (step + 1) / steps) if steps else 1.0


def cosine(step: int, total: int, floor: float) -> float:
    """Half a cosine from 1 at step 0 to `floor` at step `total` (Loshchilov & Hutter 2017, one cycle)."""
    done = min(max(step / max(total, 1), 0.0), 1.0)
    return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2


def one_cycle(step: int, total: int, floor: float) -> float:
    """Half a cosine from 1/25 up to 1 over the first 30 % of the steps, then one down to `floor`."""
    peak = max(1, round(total * _RISE))
    if step < peak:
        return _START + (1 - _START) * (1 - math.cos(math.pi * step / peak)) / 2
    return cosine(step - peak, total - peak, floor)


class Schedule:
    """The factor at each step; `plateau` alone has a memory, the others are functions of the step."""

    def __init__(self, section: ScheduleSection, steps: int) -> None:
        self.section, self.steps = section, steps
        self.reduced = 1.0
        self.best = math.inf
        self.bad = 0

    def factor(self, step: int) -> float:
        """The factor for the optimiser step `step`, counted from 0."""
        section = self.section
        if section.name == "onecycle":
            return one_cycle(step, self.steps, section.floor)
        rise = warmup(step, section.warmup)
        if section.name == "cosine":
            return rise * cosine(step - section.warmup, self.steps - section.warmup, section.floor)
        return rise * self.reduced

    def observe(self, loss: float) -> None:
        """Tell the schedule a validation loss."""
        if self.section.name != "plateau":
            return
        if loss < self.best:
            self.best, self.bad = loss, 0
        else:
            self.bad += 1
        if self.bad >= self.section.patience:
            self.reduced *= self.section.factor
            self.bad = 0

    def state(self) -> dict[str, Any]:
        """What resuming needs, as JSON values."""
        best = None if math.isinf(self.best) else self.best
        return {"reduced": self.reduced, "best": best, "bad": self.bad}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a saved `state`."""
        self.reduced, self.bad = float(state["reduced"]), int(state["bad"])
        self.best = math.inf if state["best"] is None else float(state["best"])
