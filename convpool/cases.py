"""Golden cases as ``POST /{layer}/cases`` and ``convpool cases`` make them, read with NumPy alone.

An archive is an npz: its member ``manifest`` is JSON that describes each case, and a tensor of a case is called like
``case_0007/input`` or ``case_0007/grad_weight``.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["FORMAT", "Case", "Cases", "CasesError", "read_npz", "results_by_name"]

FORMAT = "convpool-cases-1"
MANIFEST = "manifest"
ZIP = b"PK"

Array = NDArray[Any]


class CasesError(ValueError):
    """A file is no archive of cases, or one that this version of convpool does not read."""


@dataclass(frozen=True)
class Case:
    """A layer with operands and the results that are right.

    Parameters
    ----------
    name : str
        Such as ``case_0007``.
    layer : str
        Such as ``conv``.
    purpose : str
        What the case is for, in a sentence.
    parameters : dict
        Every parameter as it was resolved.
    operands : dict of str to ndarray
        ``input``, ``weight`` and so on; also ``grad_output`` if there are gradients.
    results : dict of str to ndarray
        ``output``, ``grad_input`` and so on.
    tolerances : dict of str to float
        By how much an element of each result may differ from the exact one because of rounding; 0 if it may not.
    """

    name: str
    layer: str
    purpose: str
    parameters: dict[str, Any]
    operands: dict[str, Array]
    results: dict[str, Array]
    tolerances: dict[str, float]


class Cases(Sequence[Case]):
    """The cases of an archive, in their order.

    Parameters
    ----------
    content : bytes
        The npz.

    Attributes
    ----------
    content : bytes
        The npz, to be written to a file as it is.
    manifest : dict
        What the archive says of itself.

    Raises
    ------
    CasesError
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        arrays = read_npz(content, "an archive of cases (`convpool cases -o cases.npz`)")
        try:
            self.manifest: dict[str, Any] = json.loads(arrays.pop(MANIFEST))
            written = self.manifest["format"]
        except (KeyError, TypeError, ValueError):
            raise CasesError(
                "an archive of cases has a member manifest, which is JSON; this npz has none: `convpool cases` makes it"
            ) from None
        if written != FORMAT:
            raise CasesError(
                f"cases are read in the format {FORMAT}; this archive was made by convpool "
                f"{self.manifest.get('convpool')}, in another one: install that version, or make the cases again"
            )
        try:
            self._cases = [_case(self.layer, described, arrays) for described in self.manifest["cases"]]
        except KeyError as error:
            raise CasesError(f"the archive lacks {error}, which its manifest needs: it is not complete") from None

    @classmethod
    def load(cls, source: str | os.PathLike[str] | bytes | IO[bytes] | Cases) -> Cases:
        """Read cases from a path, from an open file or from the bytes of one.

        Raises
        ------
        CasesError
        OSError
            If the file cannot be read.
        """
        if isinstance(source, Cases):
            return source
        if isinstance(source, (str, os.PathLike)):
            return cls(Path(source).read_bytes())
        return cls(source if isinstance(source, bytes) else source.read())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the archive to a file."""
        Path(path).write_bytes(self.content)

    @property
    def layer(self) -> str:
        """The layer that they are cases of, such as ``conv``."""
        return str(self.manifest["layer"])

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> list[Case]: ...
    def __getitem__(self, index: int | slice) -> Case | list[Case]:
        """Return one or several cases by their position."""
        return self._cases[index]

    def __len__(self) -> int:
        return len(self._cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self._cases)

    def __repr__(self) -> str:
        return f"<{len(self)} cases of {self.layer}>"


def read_npz(content: bytes, what: str) -> dict[str, Any]:
    """Return the members of an npz by name; those that are no npy are bytes.

    Raises
    ------
    CasesError
        If it is none, or holds pickled objects.
    """
    if not content.startswith(ZIP):
        raise CasesError(f"{what} is an npz, as numpy.savez writes it; got another file")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # noqa: BLE001 numpy lets many kinds through
        raise CasesError(f"{what} is an npz that is not damaged and holds numbers alone; {error}") from None


def results_by_name(returned: Any, names: Sequence[str]) -> dict[str, Array]:
    """Return results by name: those of a mapping or a named tuple have them, others have these in their order.

    Parameters
    ----------
    returned : array_like, sequence, named tuple or mapping
    names : sequence of str
        If there is only one, what is returned is that one, be it a list.
    """
    if hasattr(returned, "_asdict"):
        returned = returned._asdict()
    if not isinstance(returned, Mapping):
        several = returned if isinstance(returned, (tuple, list)) and len(names) > 1 else [returned]
        returned = dict(zip(names, several, strict=False))
    return {name: np.asarray(array) for name, array in returned.items() if array is not None}


def _case(layer: str, described: Mapping[str, Any], arrays: Mapping[str, Array]) -> Case:
    name, results = described["name"], described["results"]
    return Case(
        name,
        layer,
        described.get("purpose", ""),
        dict(described["parameters"]),
        {operand: arrays[f"{name}/{operand}"] for operand in described["operands"]},
        {result: arrays[f"{name}/{result}"] for result in results},
        {result: float(about["tolerance"]["absolute"]) for result, about in results.items()},
    )
