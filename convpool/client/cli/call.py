"""``convpool call``: compute one operation from files to files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...cases import results_by_name
from ..operations import OPERANDS
from ..reports import Line
from .arguments import UsageError, client_of, command_parser, flag_of, load, nearest, parse, show, waiting

__all__ = ["run"]

PATHS = {"/".join(name.rsplit("_", 1)): operands for name, operands in OPERANDS.items()}
EPILOG = "operations and their operands ([] where one may be left out):\n" + "\n".join(
    f"  {path:24} "
    + " ".join(flag_of(name) if is_required else f"[{flag_of(name)}]" for name, is_required in operands.items())
    for path, operands in PATHS.items()
)


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    parser = command_parser(
        "call",
        "Compute a layer, or its gradients, from .npy files. Every parameter is a flag: --stride 2, --padding same,\n"
        "--kernel-size 3 2, --padding '[[0,1],[0,1]]', --ceil-mode; the README lists them, and GET /ops.",
        "OPERATION --OPERAND FILE.npy ... [--PARAMETER VALUE ...] [-o FILE]",
        EPILOG,
    )
    parser.add_argument("operation", metavar="OPERATION", help="such as conv/forward")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="an .npy, an .npz, or a folder (results/); default: print the results"
    )
    given = parse(parser, arguments)
    path = given.own.operation.strip("/")
    if path not in PATHS:
        raise nearest("operation", path, PATHS)
    operands = {name: load(name, values) for name, values in given.flags.items() if name in PATHS[path]}
    missing = [name for name, required in PATHS[path].items() if required and name not in operands]
    if missing:
        flags = ", ".join(f"{flag_of(name)} FILE.npy" for name in missing)
        raise UsageError(f"{path} needs {flags} too")
    layer, direction = path.split("/")
    with client_of(given.own) as client, waiting(f"computing {path}"):
        returned = getattr(client, f"{layer}_{direction}")(**operands, **given.texts(*operands))
    # several have names of their own
    results = results_by_name(returned, ["output" if direction == "forward" else "grad_input"])
    if given.own.output:
        show(_written(results, given.own.output))
    else:
        for name, array in results.items():
            show([Line(f"{name}: {array.dtype} {array.shape}", "bold"), Line(np.array2string(array, separator=", "))])
    return 0


def _written(results: Mapping[str, NDArray[Any]], target: str) -> Iterator[Line]:
    """Write results to an .npy, an .npz, or a folder of .npy files, and yield what is said of it.

    Raises
    ------
    UsageError
    OSError
    """
    path = Path(target)
    if path.suffix == ".npz":
        np.savez(path, **results)  # type: ignore[arg-type]
        files = dict.fromkeys(results, path)
    elif path.suffix == ".npy":
        if len(results) > 1:
            raise UsageError(f"-o {target}: there are {len(results)} results; name an .npz, or a folder (results/)")
        files = dict.fromkeys(results, path)
    elif target.endswith("/") or path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        files = {name: path / f"{name}.npy" for name in results}
    else:
        raise UsageError(f"-o {target}: name an .npy, an .npz, or a folder (results/)")
    for name, array in results.items():
        if path.suffix != ".npz":
            np.save(files[name], array)
        yield Line(f"{name}: {array.dtype} {array.shape} -> {files[name]}")
