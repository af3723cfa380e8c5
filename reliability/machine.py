"""What figures were measured on."""

from __future__ import annotations

import datetime as dt
import os
import platform
from typing import Any

from benchmarks.machine import cpu_model

__all__ = ["machine"]


def machine() -> dict[str, Any]:
    """Return the date, the system, and how many programs wanted a processor in the last minute."""
    return {
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "system": f"{cpu_model()}; {platform.system()}, Python {platform.python_version()}",
        "load_before": round(os.getloadavg()[0], 2),
    }
