"""Checks of claims that nothing explains, and requests for many golden cases: small bodies that lead to much work."""

from __future__ import annotations

import json
import random

from ..attack import Control
from ..outcome import Context, Outcome, scenario
from .memory import JSON, posted, upload

CLIENTS = 8


def garbage(seed: int) -> bytes:
    """Return the check of a small layer in three dimensions with random numbers for a claim."""
    draw = random.Random(seed)

    def tensor(*shape: int) -> object:
        if not shape:
            return draw.gauss(0, 1)
        return [tensor(*shape[1:]) for _ in range(shape[0])]

    layer = {
        "input": tensor(2, 4, 4, 4, 4),
        "weight": tensor(2, 2, 2, 2, 4),
        "bias": tensor(4),
        "grad_output": tensor(2, 2, 2, 2, 4),
        "stride": 2,
        "groups": 2,
        "claimed_output": tensor(2, 2, 2, 2, 4),
        "claimed_grad_input": tensor(2, 4, 4, 4, 4),
        "claimed_grad_weight": tensor(2, 2, 2, 2, 4),
    }
    return posted("/conv/check", JSON, json.dumps(layer).encode())


def check_garbage(port: int, control: Control) -> dict[str, float]:
    """Send checks of garbage, one after the other from each client."""
    return upload(port, control, [[garbage(seed)] for seed in range(CLIENTS)])


def ask_for_cases(port: int, control: Control) -> dict[str, float]:
    """Ask for a thousand cases of one layer after the other; some requests are impossible, after many draws."""
    bodies = [
        ("conv", {"count": 1000}),
        ("pool", {"count": 1000, "parameters": "any"}),
        ("conv", {"count": 10_000, "shapes": {"input": [1, 1, 1, 1], "weight": [[9, 99], 9, 1, 1]}}),
        ("conv_transpose", {"kind": "edges", "count": 1000}),
    ]
    requests = [posted(f"/{layer}/cases", JSON, json.dumps(body).encode()) for layer, body in bodies]
    return upload(port, control, [requests[index % 4 :] + requests[: index % 4] for index in range(CLIENTS)])


@scenario
def checks_of_garbage(context: Context, outcome: Outcome) -> None:
    """8 clients send checks of random numbers for a small layer, which no mistake explains."""
    with context.server() as server:
        context.beside(outcome, server, check_garbage, busy_is_allowed=True)


@scenario
def many_cases(context: Context, outcome: Outcome) -> None:
    """8 clients ask for a thousand golden cases each, and for cases that do not exist."""
    with context.server() as server:
        context.beside(outcome, server, ask_for_cases, busy_is_allowed=True)
