"""A pytest plugin: `pytest --vmfuzz-corpus DIR` collects the entries of a corpus as tests, one an entry, and replays them in batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vmfuzz.corpus.replay import Replayed


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of this plugin."""
    group = parser.getgroup("vmfuzz")
    group.addoption("--vmfuzz-corpus", metavar="DIR", help="replay the entries of this vmfuzz corpus as tests")
    group.addoption("--vmfuzz-executor", metavar="NAME", default="auto", help='what executes them: auto, bochs, or "none" (predict only)')


def pytest_collection(session: pytest.Session) -> None:
    """Refuse a corpus that is not there before anything is collected."""
    place = _place(session.config)
    if place is not None and not place.exists():
        raise pytest.UsageError(f"--vmfuzz-corpus {session.config.getoption('--vmfuzz-corpus')}: no such file or directory")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> CorpusFile | None:
    """Collect a corpus entry if it lies in the corpus that was named."""
    place = _place(parent.config)
    if place is None or file_path.suffix != ".json" or file_path.parent.name == "capabilities":
        return None
    if not file_path.resolve().is_relative_to(place.resolve()):
        return None
    return CorpusFile.from_parent(parent, path=file_path)


def pytest_configure(config: pytest.Config) -> None:
    """Make the corpus one of the places that pytest collects from, wherever it lies."""
    place = _place(config)
    if place is not None and str(place) not in config.args:
        config.args.append(str(place))


def _place(config: pytest.Config) -> Path | None:
    """The corpus that was named, relative to where pytest was started."""
    place = config.getoption("--vmfuzz-corpus")
    return None if place is None else config.invocation_params.dir / place


class CorpusFile(pytest.File):
    """One entry's file."""

    def collect(self) -> Iterator[CorpusItem]:
        """The entry as one test."""
        yield CorpusItem.from_parent(self, name=self.path.stem)


class CorpusItem(pytest.Item):
    """One entry: passes if everything is as recorded, is skipped if its records could only be predicted."""

    def runtest(self) -> None:
        """Look up what the replay of the whole corpus said about this entry."""
        replayed = _replayed(self.session)[self.path]
        if replayed.changes:
            raise NotAsRecorded("\n".join(str(change) for change in replayed.changes))
        if not replayed.executed and self.config.getoption("--vmfuzz-executor") != "none":
            pytest.skip(
                f"not run: {replayed.lacking[0]}"
                if replayed.lacking
                else "predicted only: no executor here is a processor that was recorded"
            )

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What changed, without a traceback of this plugin."""
        from vmfuzz.errors import VmfuzzError

        if isinstance(excinfo.value, NotAsRecorded | VmfuzzError):
            return f"{self.path}: {excinfo.value}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the test stands."""
        return self.path, None, f"corpus entry {self.name}"


class NotAsRecorded(Exception):
    """An entry of which something changed."""


_KEY = pytest.StashKey[dict[Path, "Replayed"]]()


def _replayed(session: pytest.Session) -> dict[Path, Replayed]:
    """The replay of all collected entries, done once, when the first of them is run."""
    from vmfuzz.corpus.entries import load_all
    from vmfuzz.corpus.replay import replay

    if _KEY not in session.stash:
        paths = [item.path for item in session.items if isinstance(item, CorpusItem)]
        place = _place(session.config)
        report = replay(load_all(paths), session.config.getoption("--vmfuzz-executor"), place)
        session.stash[_KEY] = {replayed.path: replayed for replayed in report.entries}
    return session.stash[_KEY]
