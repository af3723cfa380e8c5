"""How ops are computed: kernels of convolution and of pooling, and what they share."""
