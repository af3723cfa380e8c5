"""The media types of the payload formats."""

from __future__ import annotations

__all__ = ["FORM_DATA", "JSON", "JSON_LINES", "NDJSON", "NPY", "NPZ", "OCTET_STREAM", "SAFETENSORS", "URL_ENCODED"]

JSON = "application/json"
JSON_LINES, NDJSON = "application/jsonl", "application/x-ndjson"
NPY = "application/x-npy"
NPZ = "application/x-npz"
SAFETENSORS = "application/vnd.safetensors"
OCTET_STREAM = "application/octet-stream"
FORM_DATA = "multipart/form-data"
URL_ENCODED = "application/x-www-form-urlencoded"
