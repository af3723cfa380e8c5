"""What kernels run on: threads, BLAS, memory and blocks."""
