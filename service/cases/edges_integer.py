"""The edges of convolutions of bytes. A purpose says what breaks there in a port."""

from __future__ import annotations

from .edges import Edge

__all__ = ["INTEGER_EDGES"]

INTEGER_EDGES = (
    Edge(
        "conv-integer-zero-point-padding",
        "conv_integer",
        "The padding has the value of the zero point, so it adds nothing: code that pads with 0 is off.",
        {"padding": ((1, 2), (0, 1))},
        {"input": (1, 4, 3, 2), "weight": (2, 2, 2, 2), "input_zero_point": (), "weight_zero_point": ()},
    ),
    Edge(
        "conv-integer-zero-point-per-channel",
        "conv_integer",
        "Each output channel has a zero point of its own.",
        {"stride": 2},
        {"input": (2, 5, 4, 2), "weight": (2, 3, 2, 3), "input_zero_point": (), "weight_zero_point": (3,)},
    ),
    Edge(
        "conv-integer-no-zero-points",
        "conv_integer",
        "Without zero points they are 0, for uint8, too.",
        {},
        {"input": (1, 4, 4, 2), "weight": (3, 3, 2, 2)},
    ),
    Edge(
        "conv-integer-extremes",
        "conv_integer",
        "The extremes of the type less a zero point at the other end need 9 bits, and their products 18.",
        {},
        {"input": (1, 4, 4, 4), "weight": (3, 3, 4, 2), "input_zero_point": (), "weight_zero_point": ()},
        dict.fromkeys(("input", "weight", "input_zero_point", "weight_zero_point"), "extreme bytes"),
    ),
    Edge(
        "conv-integer-depthwise",
        "conv_integer",
        "Every channel is a group of its own.",
        {"groups": 3, "dilation": 2},
        {"input": (1, 6, 5, 3), "weight": (2, 2, 1, 3), "input_zero_point": ()},
    ),
    Edge(
        "qlinear-half-to-even",
        "qlinear_conv",
        "Scaled sums are half-integers: they are rounded to even, not away from zero.",
        {},
        {
            "input": (1, 5, 5, 1),
            "input_scale": (),
            "input_zero_point": (),
            "weight": (1, 1, 1, 2),
            "weight_scale": (),
            "weight_zero_point": (),
            "output_scale": (),
            "output_zero_point": (),
        },
        {
            "input_scale": "half",
            "weight_scale": "ones",
            "output_scale": "ones",
            "weight": "ones",
            "weight_zero_point": "zeros",
            "input_zero_point": "zeros",
            "output_zero_point": "zeros",
        },
    ),
    Edge(
        "qlinear-saturation",
        "qlinear_conv",
        "Results beyond the type stay at its ends: they do not wrap around.",
        {"padding": 1},
        {
            "input": (1, 4, 4, 2),
            "input_scale": (),
            "input_zero_point": (),
            "weight": (2, 2, 2, 3),
            "weight_scale": (),
            "weight_zero_point": (),
            "output_scale": (),
            "output_zero_point": (),
            "bias": (3,),
        },
        {"output_scale": "small"},
    ),
    Edge(
        "qlinear-per-channel",
        "qlinear_conv",
        "Each output channel has a scale and a zero point of its own; the bias is in units of both scales.",
        {"stride": 2, "padding": ((0, 1), (1, 0))},
        {
            "input": (2, 5, 4, 2),
            "input_scale": (),
            "input_zero_point": (),
            "weight": (3, 2, 2, 4),
            "weight_scale": (4,),
            "weight_zero_point": (4,),
            "output_scale": (),
            "output_zero_point": (),
            "bias": (4,),
        },
    ),
    Edge(
        "qlinear-groups",
        "qlinear_conv",
        "Groups are channels, with padding of the zero point's value.",
        {"groups": 2, "padding": 1},
        {
            "input": (1, 3, 4, 2),
            "input_scale": (),
            "input_zero_point": (),
            "weight": (2, 2, 1, 4),
            "weight_scale": (),
            "weight_zero_point": (),
            "output_scale": (),
            "output_zero_point": (),
        },
    ),
)
