"""``convpool cases``: golden cases into a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..operations import CASES_FORMATS, OPERANDS
from .arguments import checked_layer, client_of, command_parser, parse, waiting

__all__ = ["run"]

EPILOG = """\
examples:
  convpool cases conv --seed 1 --count 100 -o cases.npz
  convpool cases conv --kind edges --data-format NCHW -o edges.npz
  convpool cases pool --mode max --kernel-size 2 3 --stride any --input 2 '[4,9]' '[4,9]' 3 --format json -o -"""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    parser = command_parser(
        "cases",
        "Make golden cases of a layer: operands, parameters, and the results that are right.\n\n"
        "Every parameter is a flag: one value, several to draw from, or any. So are the sizes of an operand, axis by\n"
        "axis: --input 1 '[8,32]' '[8,32]' null, where a pair is a range, and null is any size that fits.",
        "LAYER -o FILE [--seed N] [--count N] [--PARAMETER VALUE ...] [--OPERAND SIZE ...]",
        EPILOG,
    )
    parser.add_argument("layer", metavar="LAYER", help="such as conv")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="- is standard output")
    parser.add_argument("--seed", type=int, help="the same seed gives the same cases (default: 0)")
    parser.add_argument("--count", type=int, help="number of cases (default: 10)")
    parser.add_argument("--kind", help="random (default), integers (exact results) or edges (where ports break)")
    parser.add_argument("--dtype", help="of the operands (default: float32)")
    parser.add_argument("--directions", nargs="+", help="forward, backward (default: both)")
    parser.add_argument("--format", choices=CASES_FORMATS, help="default: as the file is called, else npz")
    given = parse(parser, arguments)
    layer = checked_layer(given.own.layer)
    output = given.own.output
    suffix = Path(output).suffix.removeprefix(".")
    sizes = {name: _values(values) for name, values in given.flags.items() if name in OPERANDS[f"{layer}_forward"]}
    options = {name: getattr(given.own, name) for name in ("seed", "count", "kind", "dtype", "directions")}
    parameters = {
        name: _value(texts[0]) if len(texts) == 1 else _values(texts) or True
        for name, texts in given.flags.items()
        if name not in sizes
    }
    with client_of(given.own) as client, waiting(f"making cases of {layer}"):
        content = client.cases_file(
            layer,
            given.own.format or (suffix if suffix in CASES_FORMATS else "npz"),
            parameters=parameters,
            shapes=sizes or None,
            **options,
        )
    if output == "-":
        sys.stdout.buffer.write(content)
    else:
        Path(output).write_bytes(content)
    return 0


def _values(texts: Sequence[str]) -> list[Any]:
    return [_value(text) for text in texts]


def _value(text: str) -> Any:
    """Return what a text means: JSON, or a word as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text
