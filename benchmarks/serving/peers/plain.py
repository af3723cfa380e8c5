"""A plain handler: what one writes first, with FastAPI behind uvicorn[standard]."""

from __future__ import annotations

import argparse

import uvicorn
from fastapi import FastAPI, Request, Response

from benchmarks.serving.peers.computation import conv_forward

app = FastAPI()


@app.post("/conv/forward")
async def forward(request: Request, padding: int = 0) -> Response:
    """Compute on the event loop: fastest for one process, as a hand-over to a thread takes time."""
    return Response(conv_forward(await request.body(), padding), media_type="application/x-npy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    uvicorn.run(app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", log_level="warning")


if __name__ == "__main__":
    main()
