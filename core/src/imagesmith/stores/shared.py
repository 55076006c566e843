"""One conversation with each registry for all that one build does there: connections, logins, tokens."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from imagesmith.stores._http import Transport

__all__ = ["Registries"]


class Registries:
    """What the stores of one build share when it is given to each ``open_repository``; closed at its end.

    Without it each store connects anew, is asked for a login anew and fetches a token anew: at a registry far
    away that takes as long as the rest of a small build.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Transport] = {}
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

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for transport in self._known.values():
                transport.close()
            self._known.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
