"""What `make bench` makes of its times: which are compared with which, and how they are summed up."""

import math
import re
from typing import Any

import numpy as np
import pytest

from benchmarks.engines import convpool
from benchmarks.figures import CHOICES, best_medians, medians, ratios, summary, targets
from benchmarks.report import markdown
from benchmarks.suite import SUITE, Layer, layers_named
from cnn_core import Conv

WITH_CHOICE = Layer("3x3 1x66x66x64 to 64", "conv", (1, 66, 66, 64), (3, 3), features=64)


def figures(
    name: str, kind: str, forward: dict[str, float], backward: dict[str, float], *, given: bool = True, **rest: Any
) -> dict[str, Any]:
    best = {"forward": forward, "backward": backward, **rest}
    times = {
        measure: {label: {"layout": [seconds]} for label, seconds in by_label.items()}
        for measure, by_label in best.items()
    }
    both = dict.fromkeys(CHOICES, 1.0)
    return {
        "share_of_peak": both,
        "others_processors": None,
        "first_call_seconds": both,
        "workspace_bytes": {key: {"forward": 0, "backward": 2**20} for key in CHOICES},
        "errors": {},
        "name": name,
        "kind": kind,
        "is_given": given,
        "is_notebook": name.startswith("notebook"),
        "choices": [choice for choice in CHOICES if choice in forward],
        "best": best_medians(medians(times)),
        "ratios": ratios(best_medians(medians(times))),
    }


CONV = figures("conv", "conv", {"auto": 2, "fastest": 1, "pytorch": 1}, {"auto": 4, "fastest": 2, "pytorch": 8})
POOL = figures("pool", "max", {"auto": 2, "pytorch": 1}, {"auto": 8, "pytorch": 4}, backward_alone={"pytorch": 2})
TINY = figures("notebook", "max", {"auto": 9, "pytorch": 1}, {"auto": 9, "pytorch": 1}, given=False)
OTHER = figures("other", "avg", {"auto": 16, "pytorch": 1, "jax": 4}, {"auto": 1, "pytorch": 1}, given=False)


def test_auto_and_fastest_are_never_mixed() -> None:
    assert CONV["ratios"] == {
        "forward": {"auto": {"pytorch": 0.5}, "fastest": {"pytorch": 1}},
        "backward": {"auto": {"pytorch": 2}, "fastest": {"pytorch": 4}},
    }


def test_what_is_timed_once_counts_for_both() -> None:
    assert POOL["ratios"]["forward"] == {"auto": {"pytorch": 0.5}, "fastest": {"pytorch": 0.5}}


def test_backward_alone_is_divided_by_the_whole_backward() -> None:
    assert POOL["ratios"]["backward"]["auto"] == {"pytorch": 0.5}
    assert POOL["ratios"]["backward_alone"]["auto"] == {"pytorch": 0.25}


def test_the_faster_layout_represents_an_engine() -> None:
    times = {"forward": {"auto": {"channels last": [3.0, 1.0, 2.0]}, "pytorch": {"NCHW": [4.0], "NHWC": [6.0]}}}
    assert ratios(best_medians(medians(times)))["forward"]["auto"] == {"pytorch": 2}


def test_parts_hold_their_layers_and_directions_only() -> None:
    compared = {each["part"]: each for each in summary([CONV, POOL, TINY, OTHER], ["pytorch"])["given"]}
    for choice, means in (
        ("auto", {"conv forward": 0.5, "conv backward": 2, "pool forward": 0.5, "pool backward": 0.5}),
        ("fastest", {"conv forward": 1, "conv backward": 4, "pool forward": 0.5, "pool backward": 0.5}),
    ):
        found = {part: each[choice]["geometric_mean"] for part, each in compared.items()}
        assert found == pytest.approx({"all": math.prod(means.values()) ** 0.25, **means})
    assert [(each["auto"]["faster"], each["auto"]["ratios"]) for each in compared.values()] == [
        (1, 4),
        (0, 1),
        (1, 1),
        (0, 1),
        (0, 1),
    ]


def test_groups_keep_the_tiny_layers_apart() -> None:
    groups = summary([CONV, POOL, TINY, OTHER], ["pytorch"])
    assert groups["given"][0]["auto"]["ratios"] == 4
    assert groups["without_notebook"][0]["auto"]["ratios"] == 6
    assert [(each["part"], each["auto"]["geometric_mean"]) for each in groups["notebook"]] == [
        ("all", pytest.approx(1 / 9))
    ]


def test_the_worst_has_its_layer_and_direction() -> None:
    compared = summary([CONV, POOL, TINY, OTHER], ["pytorch"])["without_notebook"][0]
    assert compared["fastest"]["worst"] == {"value": 1 / 16, "layer": "other", "direction": "forward"}


def test_a_peer_without_a_time_is_left_out() -> None:
    compared = summary([CONV, POOL, OTHER], ["pytorch", "jax"])["without_notebook"]
    assert [each["part"] for each in compared if each["peer"] == "jax"] == ["all", "pool forward"]


@pytest.mark.parametrize(("seconds", "reached"), [(0.75, True), (0.74, False)])
def test_a_target_is_reached_from_its_value_on(seconds: float, reached: bool) -> None:
    layer = figures("conv", "conv", {"auto": 1, "pytorch": seconds}, {"auto": 1, "pytorch": seconds})
    mean, worst = targets(summary([layer], ["pytorch"])["given"])
    assert mean["auto"] == pytest.approx({"value": seconds, "target": 0.75, "reached": reached})
    assert not mean["fastest"]["reached"]
    assert worst["figure"] == "worst"
    assert worst["auto"]["layer"] == "conv"


@pytest.mark.parametrize("layer", SUITE, ids=lambda layer: layer.name)
def test_a_name_says_the_sizes(layer: Layer) -> None:
    """The names are what the report shows: each has the input's sizes, the window's and the output's channels."""
    found = re.fullmatch(r"(.*?)(\d+(?:x\d+){2,4})(?: to (\d+))?", layer.name)
    assert found is not None
    assert tuple(map(int, found[2].split("x"))) == layer.input
    assert layer.output[-1] == int(found[3] or layer.input[-1])
    assert (layer.features > 0) is (layer.kind == "conv")
    before = found[1].removeprefix("1-D ").removeprefix("3-D ")
    assert "x".join(map(str, layer.kernel)) in before
    assert (f"/{layer.stride} " in before) is (layer.stride > 1)
    assert min(layer.output) > 0


def test_names_are_unique_and_chosen_by_their_parts() -> None:
    names = [layer.name for layer in SUITE]
    assert len(set(names)) == len(names)
    assert [layer.name for layer in layers_named(["max", "avg"])] == [
        layer.name for layer in SUITE if layer.kind != "conv"
    ]
    assert layers_named(None) == list(SUITE)


def test_the_given_layers_stay_those_of_the_targets() -> None:
    given = [layer for layer in SUITE if layer.is_given]
    assert given == list(SUITE[:16])  # the report says that they come first
    assert sum(layer.multiply_accumulates for layer in given) == 9_489_586_176


def test_fastest_is_timed_where_it_computes_something_else() -> None:
    assert convpool.choices(WITH_CHOICE) == {"auto": {}, "fastest": {"algorithm": "fastest"}}
    assert list(convpool.choices(Layer("few channels", "conv", (1, 18, 18, 8), (3, 3), features=8))) == ["auto"]
    assert list(convpool.choices(Layer("pool", "max", (1, 18, 18, 64), (3, 3)))) == ["auto"]


def test_each_choice_computes_with_its_algorithm() -> None:
    operands = WITH_CHOICE.operands()
    outputs = {}
    for choice, options in convpool.choices(WITH_CHOICE).items():
        (computation,) = convpool.build(WITH_CHOICE, operands, **options)
        outputs[choice] = computation.forward()
        expected = Conv(**options).forward(operands["input"], operands["weight"], operands["bias"])
        np.testing.assert_array_equal(outputs[choice], expected)
    assert not np.array_equal(outputs["auto"], outputs["fastest"])


def cells_of(report: str, section: str, layer: str) -> list[str]:
    table = report.split(f"\n## {section}\n")[1].split("\n## ", maxsplit=1)[0]
    (line,) = (line for line in table.splitlines() if line.startswith(f"| {layer} |"))
    return line.strip("| ").split(" | ")[1:]


def test_the_report_shows_both_choices_and_one_number_where_they_are_one() -> None:
    layers = [CONV, POOL, TINY, OTHER]
    compared = summary(layers, ["pytorch", "jax"])
    report = markdown(
        {
            "date": "today",
            "cpu": "one",
            "system": "system",
            "threads": 1,
            "rounds": 1,
            "seconds": 1,
            "engines": ["convpool", "pytorch", "jax"],
            "versions": {},
            "peaks": {key: {"sgemm_gflops": 1.0, "copy_gbytes": 1.0} for key in ("one", "all")},
            "layers": layers,
            "notebook": None,
            "summary": compared,
            "targets": targets(compared["given"]),
        }
    )
    none = ["—", "—"]
    assert cells_of(report, "Forward", "conv") == ["2000 / 1000", "1000", "0.50 / 1.00", *none, "100% / 100%"]
    assert cells_of(report, "Forward", "other") == ["16000", "1000", "0.06", "4000", "0.25", "100%"]
    assert cells_of(report, "Backward", "conv")[:3] == ["4000 / 2000", "8000", "2.00 / 4.00"]
    assert cells_of(report, "Backward", "conv")[-2:] == ["8000", "2.00 / 4.00"]
    assert cells_of(report, "Backward", "pool") == ["8000", "4000", "0.50", *none, "2000", "0.25"]
    assert (
        cells_of(report, "Targets", "PyTorch, pool backward: geometric mean")
        == [
            "**0.500**",
            "0.80",
            "no",
        ]
        * 2
    )
