"""Golden cases: operands and results of layers, drawn from a seed, that a port is tested against."""
