"""The ops: what each computes, its parameters and its operands."""
