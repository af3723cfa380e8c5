"""What is said of the operations: OpenAPI, /ops, examples and the page."""
