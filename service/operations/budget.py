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
    limits = (settings.max_result_bytes, settings.max_result_bytes, settings.max_workspace_bytes, settings.max_work)
    costs = (prediction.result_bytes, text, prediction.workspace_bytes, prediction.work)
    if all(cost <= limit for cost, limit in zip(costs, limits, strict=True)):
        return
    without_text = [codec.title for codec in CODECS.values() if codec.can_write(1) and not codec.charset]
    units = (
        "bytes of results",
        f"bytes of text or converted bfloat16 ({joined(without_text)} need no text)",
        "bytes of workspace",
        "units of work, each a multiply-accumulate",
    )
    raise TooLarge(
        *(
            Finding.of(
                "",
                "the request exceeds a limit of this server",
                got=counted(cost, unit),
                expected=f"at most {limit} {unit}",
            )
            for unit, cost, limit in zip(units, costs, limits, strict=True)
            if cost > limit
        )
    )
