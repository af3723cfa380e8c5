"""HTTP around an operation: bodies, negotiation, responses and errors."""
