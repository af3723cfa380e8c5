"""The Open Inference Protocol (V2) under /v2: every operation as a model that Triton's and KServe's clients call."""
