"""The same work in LitServe: one worker process computes, another one speaks HTTP."""

# no postponed annotations: LitServe hands the one of decode_request to FastAPI as it is
import argparse
from typing import Annotated, Any

import litserve
from fastapi import Depends, Request, Response

from benchmarks.serving.peers.computation import conv_forward


async def received(request: Request) -> tuple[bytes, int]:
    """Return the body, which LitServe itself would read as JSON, and the padding."""
    return await request.body(), int(request.query_params.get("padding", 0))


class ConvForward(litserve.LitAPI):
    """The model."""

    def setup(self, device: str) -> None:
        """Do nothing: the weight comes with each request."""

    def decode_request(self, request: Annotated[tuple[bytes, int], Depends(received)]) -> Any:
        """Leave the body to the worker process."""
        return request

    def predict(self, request: Any) -> bytes:
        """Do the whole work of a request."""
        return conv_forward(*request)

    def encode_response(self, output: bytes) -> Response:
        """Wrap the output, which is encoded already."""
        return Response(output, media_type="application/x-npy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    # its other queue, which needs ZeroMQ, is what its documentation advises for many requests
    model = ConvForward(api_path="/conv/forward")
    server = litserve.LitServer(model, accelerator="cpu", fast_queue=True, timeout=False)
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
