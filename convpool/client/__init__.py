"""The client: every call of the service as a function, NumPy arrays in and out. It needs ``convpool[client]``."""

from ..cases import Case, Cases, CasesError
from .clients import AsyncClient, Client
from .errors import (
    BadGateway,
    BodyTimeout,
    Busy,
    CallError,
    Finding,
    InvalidRequest,
    NotAcceptable,
    Problem,
    ServerGone,
    TimedOut,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    UnreadablePayload,
    UnsupportedMediaType,
)
from .reports import Explanation, LayerShape, Report, TensorReport
from .retries import Retries

__all__ = [
    "AsyncClient",
    "BadGateway",
    "BodyTimeout",
    "Busy",
    "CallError",
    "Case",
    "Cases",
    "CasesError",
    "Client",
    "Explanation",
    "Finding",
    "InvalidRequest",
    "LayerShape",
    "NotAcceptable",
    "Problem",
    "Report",
    "Retries",
    "ServerGone",
    "TensorReport",
    "TimedOut",
    "TooLarge",
    "TooManyRequests",
    "Unauthorized",
    "UnreadablePayload",
    "UnsupportedMediaType",
]
