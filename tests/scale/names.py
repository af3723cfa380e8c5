"""A name server whose answers change, as that of Docker does when replicas come and go."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterable
from typing import Self

__all__ = ["Names"]

HEADER = struct.Struct("!6H")
AN_ADDRESS, INTERNET = 1, 1  # RFC 1035: type A, class IN
NO_SUCH_NAME = 3


class Names:
    """Answers every question for an IPv4 address with the same addresses; a context manager, whose end ends it.

    Parameters
    ----------
    addresses : iterable of str
        May be changed later.
    """

    def __init__(self, addresses: Iterable[str] = ()) -> None:
        self.addresses = list(addresses)
        names = self

        class Handler(socketserver.DatagramRequestHandler):
            def handle(self) -> None:
                self.wfile.write(names._answer(self.rfile.read()))

        self._server = socketserver.UDPServer(("127.0.0.1", 0), Handler)
        self.address = "127.0.0.1:{1}".format(*self._server.server_address)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, query: bytes) -> bytes:
        number, *_ = HEADER.unpack_from(query)
        end = query.index(0, HEADER.size) + 1  # the name ends with an empty label
        question = query[HEADER.size : end + 4]
        (kind,) = struct.unpack_from("!H", query, end)
        found = list(self.addresses) if kind == AN_ADDRESS else []
        # a response, authoritative, recursion as asked for and offered
        flags = 0x8580 | (0 if self.addresses else NO_SUCH_NAME)
        # each record names the question by its offset, and may be kept for no second
        records = [struct.pack("!HHHIH", 0xC00C, AN_ADDRESS, INTERNET, 0, 4) + socket.inet_aton(one) for one in found]
        return HEADER.pack(number, flags, 1, len(found), 0, 0) + question + b"".join(records)
