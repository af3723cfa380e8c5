"""Mistakes planted in the page's code: each makes a check fail that the page as it is passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import service
from tests.browser.playground.behaviour import (
    check_absence_is_said_and_survived,
    check_no_stale_answer_is_drawn,
    check_problem,
    check_round_trip,
    conv_of,
)
from tests.browser.playground.checks import (
    check_formulas,
    check_frame,
    check_highlights,
    check_maxima,
    check_numbers,
    check_places,
)
from tests.browser.playground.fragments import fragment_of
from tests.browser.playground.layers import Example, integers
from tests.browser.playground.playground import Playground

FOLDER = Path(service.__file__).parent / "playground"

# ------------------------------------------------------------------------------------------ layers that tell much apart


def batch() -> Example:
    """Two items, two groups, an asymmetric padding of copies, channels first."""
    random = np.random.default_rng(3)
    parameters = {
        "data_format": "channels_first",
        "stride": [2, 1],
        "padding": [[1, 0], [2, 1]],
        "dilation": [1, 2],
        "groups": 2,
        "padding_mode": "reflect",
    }
    tensors = {
        "input": integers(random, (2, 2, 4, 5)),
        "weight": integers(random, (2, 1, 2, 2)),
        "bias": integers(random, (2,)),
        "grad_output": integers(random, (2, 2, 2, 6)),
    }
    return Example("conv", parameters, tensors)


def ties() -> Example:
    """A plane of few values, pooled by overlapping windows with an overhang."""
    random = np.random.default_rng(4)
    parameters = {
        "data_format": "channels_last",
        "mode": "max",
        "kernel_size": [3, 3],
        "stride": [2, 2],
        "padding": [[1, 0], [0, 0]],
        "ceil_mode": True,
    }
    return Example("pool", parameters, {"input": integers(random, (1, 5, 5, 1), 0, 1)})


def averages() -> Example:
    return Example("pool", ties().parameters | {"mode": "avg"}, ties().tensors)


# --------------------------------------------------------------------------------------------------------------- checks


def numbers(playground: Playground) -> None:
    playground.go(fragment_of(averages()))
    check_numbers(playground, averages())


def gradients(playground: Playground) -> None:
    playground.go(fragment_of(batch(), view="grad_weight"))
    check_numbers(playground, batch(), "grad_weight")


def places(playground: Playground) -> None:
    playground.go(fragment_of(batch()))
    check_places(playground, batch())


def highlights(playground: Playground) -> None:
    playground.go(fragment_of(batch()))
    check_highlights(playground, batch(), np.random.default_rng(0))


def highlights_of_the_second_item(playground: Playground) -> None:
    playground.go(fragment_of(batch(), item="1"))
    check_highlights(playground, batch(), np.random.default_rng(0), item=1)


def frame(playground: Playground) -> None:
    for example in (batch(), ties()):
        playground.go(fragment_of(example))
        check_frame(playground, example)


def maxima(playground: Playground) -> None:
    playground.go(fragment_of(ties()))
    check_maxima(playground, ties())


def formulas(playground: Playground) -> None:
    for example, view in ((batch(), "forward"), (batch(), "grad_weight"), (averages(), "forward")):
        playground.go(fragment_of(example, view=view))
        check_formulas(playground, example, view)


def round_trip(playground: Playground) -> None:
    check_round_trip(playground, batch())


def stale(playground: Playground) -> None:
    for seed in range(3):
        check_no_stale_answer_is_drawn(playground, seed)


def problem(playground: Playground) -> None:
    check_problem(playground, conv_of(stride=0))


class Mutation(NamedTuple):
    """A change of a file, and the check that it must make fail."""

    name: str
    file: str
    old: str
    new: str
    check: Callable[[Playground], object]


MUTATIONS = [
    Mutation(
        "a link names the next weight",
        "picture.js",
        "probe.hasWeight ? value - 1",
        "probe.hasWeight ? value % 2",
        highlights,
    ),
    Mutation(
        "the links of each item are those of the first",
        "picture.js",
        "? picture.item * sizeOf(",
        "? 0 * sizeOf(",
        highlights_of_the_second_item,
    ),
    Mutation(
        "the padding repeats values, not cells",
        "picture.js",
        "frame.source = output.data.slice(half)",
        "frame.source = output.data.slice(half).reverse()",
        highlights,
    ),
    Mutation("rows and columns are swapped", "grids.js", "named.slice(-2)", "named.slice(-2).reverse()", places),
    Mutation(
        "numbers are rounded", "grids.js", ": String(value));", ": String(Number(value.toPrecision(5))));", numbers
    ),
    Mutation(
        "the overhang is drawn as padding", "grids.js", '=== "overhang" ? "overhang"', '=== "overhang" ? "zeros"', frame
    ),
    Mutation(
        "a tie counts as a maximum",
        "grids.js",
        'classes.set(link.input, "tie")',
        'classes.set(link.input, "max")',
        maxima,
    ),
    Mutation(
        "the formula is that of the first cell",
        "view.js",
        "page.formulaOf(picture, cell)",
        "page.formulaOf(picture, { ...cell, index: 0 })",
        formulas,
    ),
    Mutation(
        "the gradient is that of another operand",
        "picture.js",
        "wrt(layer.backward, view",
        "wrt(layer.backward, view && 'grad_input'",
        gradients,
    ),
    Mutation(
        "the first parameter is lost in the fragment",
        "state.js",
        "if (state.parameters[name] === undefined) continue;",
        'if (name === "stride") continue;',
        round_trip,
    ),
    Mutation("late answers are taken", "main.js", "this.controller.abort();", "", stale),
    Mutation(
        "an old picture is not dimmed", "main.js", "this.isStale = this.isBusy = true;", "this.isBusy = true;", stale
    ),
    Mutation("requests do not wait for each other", "service.js", "await before;", "", stale),
    Mutation(
        "a problem stands at the other controls",
        "controls.js",
        "const findings = problems.filter((finding) => nameOf(finding) === name)",
        "const findings = problems.filter((finding) => nameOf(finding) !== name)",
        problem,
    ),
    Mutation(
        "nobody says that the service is away",
        "main.js",
        "this.isUnreachable = error instanceof Unreachable;",
        "this.isUnreachable = false;",
        check_absence_is_said_and_survived,
    ),
]


@pytest.mark.parametrize("check", sorted({mutation.check for mutation in MUTATIONS}, key=lambda check: check.__name__))
def test_the_page_as_it_is_passes(shared: Playground, check: Callable[[Playground], object]) -> None:
    check(shared)
    shared.complaints.clear()  # of requests that were given up or refused on purpose


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mistake_is_found(playground: Playground, mutation: Mutation) -> None:
    source = (FOLDER / mutation.file).read_text("utf-8")
    assert source.count(mutation.old) == 1, "the mutation no longer fits the code"
    changed = source.replace(mutation.old, mutation.new)
    playground.page.route(
        f"**/playground/{mutation.file}",
        lambda route: route.fulfill(body=changed, content_type="text/javascript"),
    )
    playground.page.set_default_timeout(4000)
    playground.open()
    playground.load_formulas()
    with pytest.raises(AssertionError):
        mutation.check(playground)
