"""The edges of average and Lp pooling. A purpose says what breaks there in a port."""

from __future__ import annotations

from .edges import Edge

__all__ = ["AVG_EDGES", "LP_EDGES"]

AVG, LP = ({"mode": mode} for mode in ("avg", "lp"))

AVG_EDGES = (
    Edge(
        "avg-padding-not-counted",
        "pool",
        "The divisor is the number of elements, so it is smaller at the border.",
        {**AVG, "kernel_size": 3, "stride": 2, "padding": 1},
        {"input": (1, 5, 5, 2)},
    ),
    Edge(
        "avg-padding-counted",
        "pool",
        "With count_include_pad the zeros of the padding count in the divisor.",
        {**AVG, "kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": True},
        {"input": (1, 5, 5, 2)},
    ),
    Edge(
        "avg-ceil-mode-overhang",
        "pool",
        "What the last window has beyond the padding never counts, with count_include_pad either.",
        {**AVG, "kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": True},
        {"input": (1, 6, 4, 2)},
    ),
    Edge(
        "avg-uneven-padding",
        "pool",
        "Each side has another padding, and so the divisors differ from side to side.",
        {**AVG, "kernel_size": 3, "stride": 1, "padding": ((0, 2), (1, 0))},
        {"input": (1, 4, 5, 2)},
    ),
    Edge(
        "avg-divisor-override",
        "pool",
        "One divisor for all windows, whatever they hold.",
        {**AVG, "kernel_size": 2, "stride": 1, "padding": 1, "divisor_override": 3},
        {"input": (1, 4, 4, 2)},
    ),
    Edge(
        "avg-kernel-as-large-as-input",
        "pool",
        "Global average: one window over everything.",
        {**AVG, "kernel_size": (3, 5)},
        {"input": (2, 3, 5, 2)},
    ),
    Edge(
        "avg-stride-over-kernel",
        "pool",
        "The stride exceeds the window: what lies between the windows has gradient 0.",
        {**AVG, "kernel_size": 2, "stride": 3},
        {"input": (1, 8, 7, 2)},
    ),
    Edge(
        "avg-odd-dilation",
        "pool",
        "Taps are 3 apart; some are in the padding.",
        {**AVG, "kernel_size": 2, "stride": 1, "dilation": 3, "padding": 1},
        {"input": (1, 5, 6, 2)},
    ),
    Edge(
        "avg-adaptive-overlap",
        "pool",
        "The number of windows does not divide the size: they overlap and differ in size.",
        {**AVG, "output_size": (3, 2)},
        {"input": (1, 7, 5, 2)},
    ),
    Edge(
        "avg-adaptive-enlarging",
        "pool",
        "More windows than elements: elements repeat, and their gradients are added.",
        {**AVG, "output_size": (5, 3)},
        {"input": (1, 2, 3, 2)},
    ),
    Edge(
        "avg-nan",
        "pool",
        "A window with NaN gives NaN, one with both infinities too.",
        {**AVG, "kernel_size": 2},
        {"input": (1, 6, 6, 2)},
        {"input": "all kinds"},
    ),
    Edge(
        "avg-many-terms",
        "pool",
        "The average of 4,096 ones: summed in float16 they stay at 2048, and the average is 0.5.",
        {**AVG, "kernel_size": 64},
        {"input": (1, 64, 64, 1)},
        {"input": "ones"},
    ),
    Edge(
        "avg-one-axis",
        "pool",
        "One spatial axis.",
        {**AVG, "kernel_size": 3, "stride": 2, "padding": 1},
        {"input": (2, 8, 3)},
    ),
    Edge(
        "avg-three-axes",
        "pool",
        "Three spatial axes of different sizes.",
        {**AVG, "kernel_size": (2, 1, 3), "stride": (1, 2, 2)},
        {"input": (1, 3, 4, 5, 2)},
    ),
)

LP_EDGES = (
    Edge(
        "lp-absolute-values",
        "pool",
        "Norm 1 takes absolute values; the gradient has the sign of the element.",
        {**LP, "kernel_size": 2, "stride": 1, "norm_type": 1},
        {"input": (1, 5, 5, 2)},
        {"input": "negative"},
    ),
    Edge(
        "lp-zeros",
        "pool",
        "The norm of a window of zeros is 0 and so is its gradient: 0 / 0 gives NaN.",
        {**LP, "kernel_size": 2},
        {"input": (1, 4, 6, 2)},
        {"input": "zeros"},
    ),
    Edge(
        "lp-padding",
        "pool",
        "Padding adds nothing to a norm; windows overlap.",
        {**LP, "kernel_size": 3, "stride": 2, "padding": ((1, 0), (0, 2))},
        {"input": (1, 5, 5, 2)},
    ),
    Edge(
        "lp-large-numbers",
        "pool",
        "Squares overflow in float16 where the norm does not: they must be scaled, or summed in a larger type.",
        {**LP, "kernel_size": 2},
        {"input": (1, 4, 4, 1)},
        {"input": "large"},
    ),
    Edge(
        "lp-tiny-numbers",
        "pool",
        "Squares underflow in float16 where the norm does not.",
        {**LP, "kernel_size": 2},
        {"input": (1, 4, 4, 1)},
        {"input": "tiny"},
    ),
    Edge(
        "lp-nan",
        "pool",
        "A window with NaN has norm NaN, else one with an infinity has norm infinity.",
        {**LP, "kernel_size": 2},
        {"input": (1, 6, 6, 2)},
        {"input": "all kinds"},
    ),
)
