"""Show what touching OpenBLAS's packing buffers does, in fresh processes: products, and a layer's first calls.

Usage: python benchmarks/first_product.py

On processors with AVX2 kernels, products of 32 to 256 columns may run at a third of their speed until one product of
512 columns has been computed (see cnn_core/runtime/packing.py). Each row is a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = (16, 32, 64, 128, 192, 256, 384, 512)
PRODUCT = """
import statistics, sys, time
import numpy as np
from cnn_core.runtime.blas import one_blas_thread
left, right = np.ones((784, 1152), np.float32), np.ones((1152, {columns}), np.float32)
def speed():
    times = []
    for _ in range(15):
        start = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - start)
    return 2e-9 * left.size * right.shape[1] / statistics.median(times)
with one_blas_thread:
    before = speed()
    np.ones((512, 512), np.float32) @ np.ones((512, 512), np.float32)
    print(f"{{before:8.1f}}{{speed():8.1f}}")
"""
LAYER = """
import time
import numpy as np
import cnn_core.kernels.conv as correlation
from cnn_core import Conv
if not {touched}:
    correlation.touch_packing_buffers = lambda threads: None
random = np.random.default_rng(0)
input = random.standard_normal((8, 28, 28, 128), np.float32)
weight = random.standard_normal((3, 3, 128, 128), np.float32)
op = Conv(padding=1)
for _ in range(6):
    start = time.perf_counter()
    op.forward(input, weight)
    print(f"{{1000 * (time.perf_counter() - start):8.1f}}", end="")
print()
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.rstrip()


def main() -> None:
    print("(784 x 1152) @ (1152 x columns), one thread, GFLOP/s before and after a product of 512 columns")
    for columns in COLUMNS:
        print(f"{columns:>5}{run(PRODUCT.format(columns=columns))}", flush=True)
    print("3x3, 8x28x28x128, direct: milliseconds of the first six calls")
    for label, touched in (("as before", False), ("touched", True)) * 2:
        print(f"{label:>10}{run(LAYER.format(touched=touched))}", flush=True)


if __name__ == "__main__":
    main()
