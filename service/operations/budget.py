"""Limits on what one request may cost, checked on the prediction before anything is allocated."""

from __future__ import annotations

from ..codecs import CODECS
from ..codecs.names import joined
from ..problems import Finding, TooLarge, counted
from ..settings import Settings
from .prediction import Prediction

__all__ = ["check_budget"]


def check_budget(prediction: Prediction, text: int, settings: Settings) -> None:
    """Raise TooLarge if a prediction exceeds a limit of the settings.

    Parameters
    ----------
    prediction : Prediction
    text : int
        Bytes that the response takes in addition to the results, as text does.
    settings : Settings
    """
    without_text = [codec.title for codec in CODECS.values() if codec.can_write(1) and not codec.charset]
    costs = (
        ("bytes of results", prediction.result_bytes, settings.max_result_bytes),
        (f"bytes of text ({joined(without_text)} need none)", text, settings.max_result_bytes),
        ("bytes of workspace", prediction.workspace_bytes, settings.max_workspace_bytes),
        ("units of work, each a multiply-accumulate", prediction.work, settings.max_work),
    )
    findings = [
        Finding.of(
            "",
            "the request exceeds a limit of this server",
            got=counted(cost, what),
            expected=f"at most {limit} {what}",
        )
        for what, cost, limit in costs
        if cost > limit
    ]
    if findings:
        raise TooLarge(*findings)
