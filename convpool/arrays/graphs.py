"""Arrays of Dask from tasks: each chunk is computed by a task that reads boxes of other arrays.

A task that needs a part of a chunk reads a copy of that part, made where the chunk is: between machines only the part
is sent, and the chunk need not stay in memory for it.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray

from .parts import Box
from .spans import ranges

__all__ = ["Read", "Source", "as_array", "computed", "member", "summed", "whole"]

Chunks = tuple[tuple[int, ...], ...]
Graph = dict[Any, Any]
Slices = tuple[slice, ...]

MAX_SUMMANDS = 8
"""So many summands are added by one task."""


class Source:
    """An array that tasks read boxes of, or as a whole."""

    def __init__(self, array: da.Array) -> None:
        self.array = array
        self._ranges = [ranges(sizes) for sizes in array.chunks]
        self._stops = [[stop for _, stop in along] for along in self._ranges]

    def read(self, graph: Graph, name: str, box: Box) -> Any:
        """Return what stands for a box in a task, and put the tasks that cut it out of chunks into the graph."""
        pieces, targets = [], []
        for index in itertools.product(*(self._chunks(axis, part) for axis, part in enumerate(box))):
            cut, target = [], []
            for axis, (position, (start, stop)) in enumerate(zip(index, box, strict=True)):
                first, last = self._ranges[axis][position]
                low, high = max(start, first), min(stop, last)
                cut.append(slice(low - first, high - first))
                target.append(slice(low - start, high - start))
            pieces.append(self._piece(graph, name, index, tuple(cut)))
            targets.append(tuple(target))
        shape = tuple(stop - start for start, stop in box)
        if len(pieces) == 1:
            return pieces[0]
        return (_Gather(shape, self.array.dtype, tuple(targets)), pieces)

    def _chunks(self, axis: int, part: tuple[int, int]) -> range:
        """Return which chunks along an axis have elements of a part."""
        start, stop = part
        if start == stop:
            return range(0)
        stops = self._stops[axis]
        first = bisect.bisect_right(stops, start)
        return range(first, bisect.bisect_left(stops, stop, lo=first) + 1)

    def _piece(self, graph: Graph, name: str, index: tuple[int, ...], cut: Slices) -> Any:
        key = (self.array.name, *index)
        sizes = [along[position][1] - along[position][0] for along, position in zip(self._ranges, index, strict=True)]
        if all((part.start, part.stop) == (0, size) for part, size in zip(cut, sizes, strict=True)):
            return key
        borders = itertools.chain.from_iterable((part.start, part.stop) for part in cut)
        cut_key = (f"cut-{name}", self.array.name, *index, *borders)
        graph.setdefault(cut_key, (_Cut(cut), key))
        return cut_key


class Read(NamedTuple):
    """A box of an array, as an argument of a task."""

    source: Source
    box: Box


@dataclass(frozen=True, slots=True)
class _Cut:
    slices: Slices

    def __call__(self, chunk: NDArray[Any]) -> NDArray[Any]:
        return chunk[self.slices].copy()


@dataclass(frozen=True, slots=True)
class _Gather:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    targets: tuple[Slices, ...]

    def __call__(self, pieces: Sequence[NDArray[Any]]) -> NDArray[Any]:
        gathered = np.empty(self.shape, dtype=self.dtype)
        for target, piece in zip(self.targets, pieces, strict=True):
            gathered[target] = piece
        return gathered


def as_array(value: Any) -> da.Array:
    """Return an array of Dask as it is, and anything else as one with a single chunk."""
    return value if isinstance(value, da.Array) else da.from_array(np.asarray(value), chunks=-1)


def whole(array: da.Array) -> da.Array:
    """Return an array with all elements in a single chunk."""
    return array if array.npartitions == 1 else array.rechunk(-1)


def computed(
    prefix: str, token: str, chunks: Chunks, dtype: Any, task: Callable[[Box], tuple[Any, Sequence[Any]]]
) -> da.Array:
    """Return an array whose chunks are computed by tasks.

    Parameters
    ----------
    prefix, token : str
        The name of the tasks, as dashboards show it, and what distinguishes them from others.
    chunks : tuple of tuple of int
    dtype : dtype
    task : callable
        Takes a box of the array and returns what computes it, and its arguments: Read, Source for a whole array, or a
        value.
    """
    name, sources = f"{prefix}-{token}", set[Source]()
    graph: Graph = {}
    along = [ranges(sizes) for sizes in chunks]
    for index in itertools.product(*(range(len(sizes)) for sizes in chunks)):
        box = tuple(parts[position] for parts, position in zip(along, index, strict=True))
        graph[name, *index] = _call(graph, token, sources, *task(box))
    return _array(name, graph, sources, chunks, dtype)


def member(tuples: da.Array, place: int, dtype: Any) -> da.Array:
    """Return one member of the tuples that the chunks of an array are."""
    name = f"{tuples.name}-{place}"
    graph = {
        (name, *key[1:]): (operator.getitem, key, place)
        for key in itertools.product([tuples.name], *(range(len(sizes)) for sizes in tuples.chunks))
    }
    return _array(name, graph, [Source(tuples)], tuples.chunks, dtype)


def summed(
    prefix: str,
    token: str,
    boxes: Iterable[Box],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    task: Callable[[Box], tuple[Any, Sequence[Any]]],
) -> da.Array:
    """Return the sum of what tasks compute for boxes as an array of a single chunk.

    The summands are added in float64, in the order of the boxes, some neighbours at a time, then these sums likewise:
    in the same order however many workers there are, and in whichever order these finish.
    """
    name, sources = f"{prefix}-{token}", set[Source]()
    graph: Graph = {}
    keys: list[Any] = []
    for number, box in enumerate(boxes):
        keys.append((f"{prefix}-summand-{token}", number))
        graph[keys[-1]] = _call(graph, token, sources, *task(box))
    for level in itertools.count():
        if len(keys) <= MAX_SUMMANDS:
            break
        groups = [keys[start : start + MAX_SUMMANDS] for start in range(0, len(keys), MAX_SUMMANDS)]
        keys = [(f"{prefix}-sum-{token}", level, number) for number in range(len(groups))]
        graph |= {key: (_added, group) for key, group in zip(keys, groups, strict=True)}
    graph[name, *(0,) * len(shape)] = (_rounded, (_added, keys), dtype)
    return _array(name, graph, sources, tuple((size,) for size in shape), dtype)


def _added(summands: Sequence[NDArray[Any]]) -> NDArray[Any]:
    with np.errstate(all="ignore"):  # infinities and NaNs propagate without warnings, as in the ops
        return functools.reduce(np.add, (summand.astype(np.float64) for summand in summands))


def _rounded(total: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(all="ignore"):
        return total.astype(dtype)


def _call(graph: Graph, token: str, sources: set[Source], function: Any, arguments: Sequence[Any]) -> tuple[Any, ...]:
    read: list[Any] = []
    for argument in arguments:
        if isinstance(argument, Read):
            sources.add(argument.source)
            read.append(argument.source.read(graph, token, argument.box))
        elif isinstance(argument, Source):
            sources.add(argument)
            read.append((argument.array.name, *(0,) * argument.array.ndim))
        else:
            read.append(argument)
    return (function, *read)


def _array(name: str, graph: Graph, sources: Iterable[Source], chunks: Chunks, dtype: Any) -> da.Array:
    layers = HighLevelGraph.from_collections(name, graph, dependencies=[source.array for source in sources])
    return da.Array(layers, name, chunks, meta=np.empty((0,) * len(chunks), dtype=dtype))
