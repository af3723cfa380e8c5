"""A Unix domain socket to listen on, for clients on the same machine."""

from __future__ import annotations

import contextlib
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["BACKLOG", "remove_file", "unix_socket"]

MODE = 0o666
"""Mode of the socket's file: as with a port of the loopback interface, every user may connect. The permissions of the
folder can restrict that."""

BACKLOG = 2048
"""Connections that may wait, as many as uvicorn has for a port."""


@contextlib.contextmanager
def unix_socket(path: str) -> Iterator[socket.socket]:
    """Listen on a path; remove its file at the end.

    Clients may connect from the beginning; they wait until the server has started. A file that a server left behind
    when it was killed is replaced.

    Raises
    ------
    OSError
        If that is not possible, for example because a server listens there, or the file is not a socket.
    """
    file = Path(path)
    _remove_stale(file)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        file.chmod(MODE)
        listener.listen(BACKLOG)  # at once: who binds without listening looks like a dead server
        own = file.stat()
        try:
            yield listener
        finally:
            remove_file(path, own.st_ino)


def remove_file(path: str, inode: int) -> None:
    """Remove a socket's file, if it is still there and not that of a server which has replaced it."""
    file = Path(path)
    with contextlib.suppress(FileNotFoundError):
        if file.lstat().st_ino == inode:
            file.unlink()


def _remove_stale(file: Path) -> None:
    """Remove the file of a socket on which nobody listens."""
    try:
        mode = file.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError("there is a file that is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(file))
        except ConnectionRefusedError:
            file.unlink()
            return
    raise FileExistsError("a server listens there already")
