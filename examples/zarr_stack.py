"""Filter and pool a stack of images that is larger than memory: Zarr in, Zarr out, by way of Dask.

    pip install 'convpool[dask]' zarr
    python examples/zarr_stack.py --gigabytes 20 --folder /data

The stack is float32, (N, 2048, 2048, 1), in chunks of half an image along each axis, so that windows at the borders of
chunks need their neighbours. It is made up first, by Dask too, as random integers from 0 to 255. Then every image is
filtered with a binomial kernel of 5 x 5, with reflecting padding, and the maxima of windows of 2 x 2 are written to
another store. Nothing is compressed. At last some images are computed again by one call each, and compared bit by bit.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import zarr

from convpool import Conv, MaxPool, set_threads
from convpool.arrays.dask import forward

BINOMIAL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]).astype("float32").reshape(5, 5, 1, 1) / 256
FILTER = Conv(padding="same", padding_mode="reflect", algorithm="direct")
POOL = MaxPool(kernel_size=2)


def create(path: Path, array: da.Array) -> Any:
    """Create the Zarr array that an array of Dask is to be stored in: the same chunks, nothing compressed."""
    return zarr.create_array(
        str(path), shape=array.shape, chunks=array.chunksize, dtype=array.dtype, compressors=None, overwrite=True
    )


def made_up(images: int, size: int) -> da.Array:
    chunks = (1, size // 2, size // 2, 1)
    random = da.random.default_rng(0)
    return random.integers(0, 256, (images, size, size, 1), dtype="uint8", chunks=chunks).astype("float32")


def filtered_and_pooled(stack: da.Array) -> da.Array:
    return forward(POOL, forward(FILTER, stack, BINOMIAL))


@contextmanager
def timed(what: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"{what}: {time.perf_counter() - start:.1f} s; peak of memory so far: {peak:.0f} MiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1, help="size of the stack, in units of 10^9 bytes")
    parser.add_argument("--size", type=int, default=2048, help="height and width of the images; a multiple of 4")
    parser.add_argument("--folder", type=Path, default=Path(), help="where both stores are made")
    parser.add_argument("--threads", type=int, default=2, help="tasks at a time")
    parser.add_argument("--compared", type=int, default=3, help="images that are computed again")
    parser.add_argument("--keep", action="store_true", help="keep the stores")
    arguments = parser.parse_args()

    images = max(1, round(arguments.gigabytes * 1e9 / (4 * arguments.size**2)))
    source, target = arguments.folder / "stack.zarr", arguments.folder / "pooled.zarr"
    set_threads(1)  # Dask has a thread for each processor already
    dask.config.set(scheduler="threads", num_workers=arguments.threads)
    try:
        stack = made_up(images, arguments.size)
        with timed(f"made up {stack.shape}, {stack.nbytes / 1e9:.2f} GB"):
            da.store(stack, create(source, stack), lock=False)
        stack = da.from_zarr(str(source))
        pooled = filtered_and_pooled(stack)
        with timed(f"filtered and pooled to {pooled.shape}, {pooled.nbytes / 1e9:.2f} GB"):
            da.store(pooled, create(target, pooled), lock=False)
        before, after = zarr.open_array(str(source), mode="r"), zarr.open_array(str(target), mode="r")
        with timed("compared"):
            for number in np.linspace(0, images - 1, min(images, arguments.compared)).astype(int).tolist():
                expected = POOL.forward(FILTER.forward(before[number : number + 1], BINOMIAL))
                assert np.array_equal(after[number : number + 1], expected), f"image {number} differs"
    finally:
        if not arguments.keep:
            shutil.rmtree(source, ignore_errors=True)
            shutil.rmtree(target, ignore_errors=True)


if __name__ == "__main__":
    main()
