"""Whether a server answers at all, known within seconds: a client that retries can take minutes to say that it does not."""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit
from urllib.request import getproxies

SECONDS = 5.0
"""How long a name may take to resolve and a connection to open."""


def reachable(address: str, seconds: float | None = None) -> bool:
    """Whether the host of `address` accepts a connection within `seconds`; True behind a proxy, which is not asked.

    Resolving a name has no time limit of its own, so it runs in a thread that is left behind where it hangs.
    """
    parts = urlsplit(address)
    if parts.scheme in (proxies := getproxies()) or "all" in proxies or parts.hostname is None:
        return True
    limit = SECONDS if seconds is None else seconds
    host, port = parts.hostname, parts.port or (80 if parts.scheme == "http" else 443)
    answered = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((host, port), limit).close()
            answered.set()
        except OSError:
            pass

    thread = threading.Thread(target=connect, daemon=True, name="fathom-reachable")
    thread.start()
    thread.join(limit)
    return answered.is_set()
