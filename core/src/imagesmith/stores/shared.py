"""One conversation with each registry for all that one build does there: connections, logins, tokens, and
what is still on its way."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from concurrent.futures import Future

    from imagesmith.stores._http import Transport

__all__ = ["Registries"]


class Registries:
    """What the stores of one build share when it is given to each ``open_repository``; closed at its end.

    Without it each store connects anew, is asked for a login anew and fetches a token anew: at a registry far
    away that takes as long as the rest of a small build.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Transport] = {}
        self._sending: dict[str, list[Future[None]]] = {}
        self._lock = threading.Lock()

    def transport(
        self, config: str | os.PathLike[str] | None, host: str, make: Callable[[], Transport]
    ) -> Transport:
        """The one to that host by this ``registry_config``; made when there is none."""
        key = (str(config or ""), host)
        with self._lock:
            if key not in self._known:
                self._known[key] = make()
            return self._known[key]

    def sending(self, repository: str, upload: Future[None]) -> None:
        """A blob of that repository is on its way: no manifest is sent before it is there.

        So a builder need not wait for its last layer, and the configuration is sent beside it.
        """
        with self._lock:
            self._sending.setdefault(repository, []).append(upload)

    def settle(self, repository: str) -> None:
        """Wait for all that is on its way to that repository; raises what went wrong with it."""
        with self._lock:
            waiting = self._sending.pop(repository, [])
        for upload in waiting:
            upload.result()

    def close(self) -> None:
        """Close all connections; what is on its way to no end is not waited for."""
        with self._lock:
            for upload in (upload for uploads in self._sending.values() for upload in uploads):
                upload.cancel()
            self._sending.clear()
            for transport in self._known.values():
                transport.close()
            self._known.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
