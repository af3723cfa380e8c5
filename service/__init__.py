"""The HTTP service around cnn_core."""
