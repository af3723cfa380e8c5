"""The engines that are compared: each module builds a layer's forward and backward computation."""
