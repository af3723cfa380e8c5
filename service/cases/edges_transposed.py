"""The edges of transposed convolution. A purpose says what breaks there in a port."""

from __future__ import annotations

from .edges import Edge

__all__ = ["TRANSPOSED_EDGES"]

TRANSPOSED_EDGES = (
    Edge(
        "conv-transpose-single-element",
        "conv_transpose",
        "One element becomes one copy of the kernel; the sizes are those of the formula with n - 1 = 0.",
        {"stride": 2},
        {"input": (1, 1, 1, 1), "weight": (2, 3, 1, 1), "bias": (1,)},
    ),
    Edge(
        "conv-transpose-stride-over-kernel",
        "conv_transpose",
        "The stride exceeds the kernel: no window reaches some elements, which are the bias.",
        {"stride": 3},
        {"input": (1, 3, 2, 2), "weight": (2, 1, 2, 2), "bias": (2,)},
    ),
    Edge(
        "conv-transpose-overlap",
        "conv_transpose",
        "The windows overlap: what falls on an element is added, not overwritten.",
        {},
        {"input": (1, 4, 3, 2), "weight": (3, 3, 2, 2), "bias": (2,)},
    ),
    Edge(
        "conv-transpose-output-padding",
        "conv_transpose",
        "Output padding shows what windows reach beyond the cut at the end, where they do; it appends no zeros.",
        {"stride": (2, 3), "padding": 1, "output_padding": (1, 2)},
        {"input": (1, 3, 3, 2), "weight": (3, 4, 2, 2), "bias": (2,)},
    ),
    Edge(
        "conv-transpose-output-size",
        "conv_transpose",
        "Several sizes lead to the same input with a stride: output_size says which.",
        {"stride": 2, "padding": 1, "output_size": (6, 5)},
        {"input": (1, 3, 3, 2), "weight": (3, 3, 2, 2)},
    ),
    Edge(
        "conv-transpose-uneven-padding",
        "conv_transpose",
        "The padding is cut off the output, another number on each side.",
        {"stride": 2, "padding": ((0, 2), (1, 0))},
        {"input": (1, 3, 4, 2), "weight": (3, 3, 2, 2), "bias": (2,)},
    ),
    Edge(
        "conv-transpose-same-odd",
        "conv_transpose",
        "Same: n * stride elements; an odd cut takes the extra element at the end.",
        {"stride": 2, "padding": "same"},
        {"input": (1, 3, 2, 2), "weight": (3, 5, 2, 2)},
    ),
    Edge(
        "conv-transpose-same-short-kernel",
        "conv_transpose",
        "Same with a kernel shorter than the stride: nothing is cut, and the end is only the bias.",
        {"stride": 3, "padding": "same"},
        {"input": (1, 2, 3, 2), "weight": (2, 1, 1, 2), "bias": (1,)},
    ),
    Edge(
        "conv-transpose-odd-dilation",
        "conv_transpose",
        "Taps are 3 apart, with gaps between them that other windows fill.",
        {"dilation": 3, "stride": 2},
        {"input": (1, 3, 4, 2), "weight": (2, 3, 2, 2), "bias": (2,)},
    ),
    Edge(
        "conv-transpose-depthwise",
        "conv_transpose",
        "Groups are channels: the weight's third axis is C/groups of the output, its last the channels of the input.",
        {"groups": 3, "stride": 2},
        {"input": (1, 3, 3, 3), "weight": (2, 2, 1, 3), "bias": (3,)},
    ),
    Edge(
        "conv-transpose-two-groups",
        "conv_transpose",
        "Two groups with more channels out than in: group g of the input goes to group g of the output.",
        {"groups": 2},
        {"input": (2, 3, 3, 4), "weight": (2, 2, 3, 4), "bias": (6,)},
    ),
    Edge(
        "conv-transpose-axes-differ",
        "conv_transpose",
        "Everything differs between the axes: exchanged axes, and a kernel flipped along one, show.",
        {"stride": (1, 2), "dilation": (2, 1), "padding": ((1, 0), (0, 2))},
        {"input": (2, 4, 3, 2), "weight": (3, 2, 3, 2), "bias": (3,)},
    ),
    Edge(
        "conv-transpose-one-axis",
        "conv_transpose",
        "One spatial axis.",
        {"stride": 2, "padding": 1},
        {"input": (2, 5, 3), "weight": (4, 2, 3), "bias": (2,)},
    ),
    Edge(
        "conv-transpose-three-axes",
        "conv_transpose",
        "Three spatial axes of different sizes.",
        {"stride": (2, 1, 2)},
        {"input": (1, 2, 3, 2, 2), "weight": (2, 2, 3, 2, 2), "bias": (2,)},
    ),
    Edge(
        "conv-transpose-nan",
        "conv_transpose",
        "NaN and infinities in the input reach exactly the elements under their copy of the kernel.",
        {"stride": 2},
        {"input": (1, 3, 3, 2), "weight": (3, 2, 1, 2)},
        {"input": "all kinds"},
    ),
)
