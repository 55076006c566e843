"""Layers on their way to a registry or a layout. Base layers need not come through this machine."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from imagesmith.stores import LayerFile
    from imagesmith.stores.layout import LayoutStore
    from imagesmith.stores.registry import RegistryStore
    from imagesmith_oci.base import Base, BaseLayer

__all__ = ["Known", "Pusher"]

THREADS = 4
_ASK_FIRST = 1_000_000
"""bytes; before a larger blob is sent the registry is asked whether it has it"""


class Known:
    """Which layers stand in a place, as far as this machine remembers."""

    def __init__(self, folder: Path, place: str) -> None:
        self._file = folder / hashlib.sha256(place.encode()).hexdigest()[:32]
        self._digests: set[str] | None = None
        self._writing = threading.Lock()

    def __contains__(self, digest: str) -> bool:
        if self._digests is None:
            try:
                self._digests = set(self._file.read_text(encoding="utf-8").split())
            except OSError:
                self._digests = set()
        return digest in self._digests

    def add(self, digest: str) -> None:
        """It stands there now."""
        if digest in self:
            return
        with self._writing:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(f"{digest}\n")
            if self._digests is not None:
                self._digests.add(digest)

    def forget(self) -> None:
        """What was remembered is not true."""
        self._file.unlink(missing_ok=True)
        self._digests = set()


class Pusher:
    """Sends layers in a few threads; what they raise is raised by ``finish``, or before the manifest goes."""

    def __init__(
        self,
        target: RegistryStore | LayoutStore,
        base: Base,
        known: Known | None,
        handed: Callable[[Future[None]], None] | None = None,
    ) -> None:
        """``handed``: takes what is on its way at the end, and sees that it arrives."""
        self._target = target
        self._base = base
        self._known = known
        self._handed = handed
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="push")
        self._running: list[Future[None]] = []
        self._carried: list[Future[None]] = []
        self._done = False

    def base(self, layers: Sequence[BaseLayer]) -> None:
        """The layers of the base."""
        for layer in layers:
            if self._known is None or layer.digest not in self._known:
                self._carried.append(self._pool.submit(self._carry, layer))

    def layer(self, layer: LayerFile) -> bool:
        """A layer of ours. False when it is there already."""
        if self._known is not None and layer.digest in self._known:
            return False
        self._running.append(self._pool.submit(self._send, layer))
        return True

    def finish(self) -> None:
        """Wait until all stand there, but for layers of ours that are handed over on their way."""
        for future in self._carried:
            future.result()
        for future in self._running:
            if self._handed is None:
                future.result()
            else:
                self._handed(future)
        self._pool.shutdown(wait=False)
        self._done = True

    def close(self) -> None:
        """Send no more, unless all was said to be sent."""
        if not self._done:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _carry(self, layer: BaseLayer) -> None:
        self._base.carry(layer, self._target)
        self._remember(layer.digest)

    def _send(self, layer: LayerFile) -> None:
        asked = layer.size >= _ASK_FIRST and self._target.has_blob(layer.digest)
        if not asked:
            self._target.put_blob(layer.path, layer.digest)
        self._remember(layer.digest)

    def _remember(self, digest: str) -> None:
        if self._known is not None:
            self._known.add(digest)
