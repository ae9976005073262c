"""Sockets that listen later: the service binds its ports first, and listens once it can answer."""

import socket

from service.settings import SettingsError


def bound(host: str, port: int, setting: str, *, shared: bool = False) -> socket.socket:
    """A socket on `host` and `port`. Raises `SettingsError` that names the `setting`.

    `shared`: each worker binds the port for itself, and the kernel shares the connections out.
    """
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise SettingsError(f"{setting} is {port}, and {host}:{port} cannot be had: {error.strerror}") from None
    made.setblocking(False)  # noqa: FBT003 - its only argument
    return made
