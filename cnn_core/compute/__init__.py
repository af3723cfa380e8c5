"""How the ops are computed: arrays and geometry in, arrays out. What the results mean is decided by the op modules."""
