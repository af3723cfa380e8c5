"""Layers over arrays that do not fit one call, one memory or one machine: thin, lazy wrappers of engines.

* ``convpool.arrays.dask``: over chunked arrays, ``dask.array``; needs ``convpool[dask]``;
* ``convpool.arrays.ray``: over datasets of images, ``ray.data``; needs ``convpool[ray]``;
* ``convpool.arrays.parts``: the rule that both follow: what a part of a result needs, and how it is computed.
"""
