"""What a machine with the engine in it is for its executor: memory that both see, requests in it, and its death."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy.typing as npt


class WorkerDied(Exception):
    """The machine ended or was ended during a request; `reason` says how, for people.

    `row_known`: whether the request's current_row is the row that was being run then.
    """

    def __init__(self, reason: str, *, row_known: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.row_known = row_known


class EngineProcess(Protocol):
    """A machine with the engine in it: the memory of enum vmfuzz_emulated, and requests in it."""

    @property
    def request(self) -> Any:
        """Struct vmfuzz_request in that memory."""

    def view(self, place: str, dtype: Any, count: int, offset: int = 0) -> npt.NDArray[Any]:
        """`count` elements of the memory at a place named in engine.h, plus `offset` bytes."""

    def call(self) -> None:
        """Have the request served; raises WorkerDied."""

    def restart(self) -> None:
        """Make the machine usable again after a WorkerDied."""

    def texts(self) -> list[str]:
        """The machine's messages so far, by number - 1."""

    def close(self) -> None:
        """End the machine."""
