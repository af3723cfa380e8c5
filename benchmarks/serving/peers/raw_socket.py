"""The floor: a server that reads as many bytes as a request has, and sends as many as its response has."""

from __future__ import annotations

import argparse
import selectors
import socket

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


class Connection:
    """What a client has sent so far, and what it has not been sent yet."""

    def __init__(self, accepted: socket.socket, request_bytes: int, response: memoryview) -> None:
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = accepted
        self._request = memoryview(bytearray(request_bytes))
        self._response = response
        self._received = self._sent = 0

    def receive(self) -> bool:
        """Take what has come; return whether a request is complete. An error if the client has gone."""
        count = self.socket.recv_into(self._request[self._received :])
        if count == 0:
            raise ConnectionError
        self._received += count
        return self._received == len(self._request)

    def send(self) -> bool:
        """Send what can be sent; return whether the response is complete."""
        self._sent += self.socket.send(self._response[self._sent :])
        if self._sent < len(self._response):
            return False
        self._received = self._sent = 0
        return True


def serve(port: int, request_bytes: int, response_bytes: int) -> None:
    response = memoryview(HEAD % response_bytes + b"\1" * response_bytes)
    with selectors.DefaultSelector() as selector, socket.create_server(("127.0.0.1", port), backlog=256) as listener:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, events in selector.select():
                if key.data is None:
                    connection = Connection(listener.accept()[0], request_bytes, response)
                    selector.register(connection.socket, selectors.EVENT_READ, connection)
                else:
                    _serve_connection(selector, key.data, events)


def _serve_connection(selector: selectors.BaseSelector, connection: Connection, events: int) -> None:
    try:
        if events & selectors.EVENT_READ and not connection.receive():
            return
        wanted = selectors.EVENT_READ if connection.send() else selectors.EVENT_WRITE
    except BlockingIOError:
        wanted = selectors.EVENT_WRITE
    except ConnectionError:
        selector.unregister(connection.socket)
        connection.socket.close()
        return
    if selector.get_key(connection.socket).events != wanted:
        selector.modify(connection.socket, wanted, connection)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--port", "--request-bytes", "--response-bytes"):
        parser.add_argument(name, type=int, required=True)
    serve(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
