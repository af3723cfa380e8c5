"""The same work in BentoML, as a file in a form: its way of taking binary data."""

# no postponed annotations: BentoML reads those of the method
from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType

from benchmarks.serving.peers.computation import conv_forward


@bentoml.service(workers=1, metrics={"enabled": False}, traffic={"timeout": 600})
class ConvForward:
    """The model."""

    @bentoml.api(route="/conv/forward")
    def forward(self, operands: Path, padding: int = 0) -> Annotated[bytes, ContentType("application/x-npy")]:
        """Compute in a thread of BentoML's."""
        return conv_forward(operands.read_bytes(), padding)
