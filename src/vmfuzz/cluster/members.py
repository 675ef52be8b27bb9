"""Who belongs to a Dask cluster: its scheduler, its workers with the same vmfuzz as here, and the processors that they execute on."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.cluster import worker as cluster_worker
from vmfuzz.comparison.processor import fingerprint
from vmfuzz.errors import EnvironmentUnusable, ExecutorError, UsageError
from vmfuzz.execute.base import lacking_fields
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Client

    from vmfuzz.arch.outcomes import Outcomes

#: Seconds in which the scheduler has to answer.
CONNECT_SECONDS: Final = 5
#: What has to be the same on all workers, since the same seed gives the same candidates only with the same draws.
_SAME: Final = ("vmfuzz", "hypothesis", "numpy")
_NAMED: Final = 5

#: (name, version, content of the capabilities and what fields are lacking): what makes two workers execute on the same processor.
Key = tuple[str, str, str]


@dataclass(frozen=True, eq=False)
class FarProcessor:
    """The processor that workers of a cluster execute on: an executor's facts without the executor.

    `option` and `cpu` are what `open_executor` takes there, `version` that of what executes.
    """

    name: str
    version: str
    option: str
    cpu: str | None
    facts: tuple[Capabilities, Vmcs]

    @classmethod
    def of(cls, data: dict[str, Any]) -> Self:
        """The processor that a worker described."""
        facts = Capabilities.from_json(data["capabilities"]), Vmcs.from_json(data["known_good"])
        return cls(data["name"], data["version"], data["option"], data["cpu"], facts)

    @property
    def key(self) -> Key:
        """What is the same for workers whose results are merged."""
        return self.name, self.version, " ".join((fingerprint(self.facts[0]), *lacking_fields(self)))

    def capabilities(self) -> Capabilities:
        """What the processor allows."""
        return self.facts[0]

    def known_good(self) -> Vmcs:
        """The VMCS that the first worker captured."""
        return self.facts[1]

    def run(self, _batch: VmcsBatch | Sequence[Vmcs]) -> Outcomes:
        """Nothing executes here."""
        raise ExecutorError(f"{self.name} is the processor of a worker; only that worker can execute on it")

    def close(self) -> None:
        """Nothing to release."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def connect(address: str) -> Client:
    """A client of the scheduler at an address, or in a scheduler file (`dask scheduler --scheduler-file`).

    Raises EnvironmentUnusable where the extra is not installed or no scheduler answers, UsageError where this is no address.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise EnvironmentUnusable(f"--scheduler needs {error.name}; install it with: pip install 'vmfuzz[cluster]'") from None
    how = "start one with `dask scheduler`, and workers with `dask worker ADDRESS --nthreads 1`, or name the address that it prints"
    try:
        if Path(address).is_file():
            address = json.loads(Path(address).read_text(encoding="utf-8"))["address"]
        # asked first, because a client that fails to connect cannot be closed without a wait and a traceback
        kind = asyncio.run(asyncio.wait_for(_kind_of(address), CONNECT_SECONDS))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"--scheduler {address}: {error}; expected the address that `dask scheduler` prints, such as tcp://host:8786, or its scheduler file"
        ) from None
    except OSError:  # TimeoutError and what Dask raises where a connection ends are among them
        raise EnvironmentUnusable(f"no Dask scheduler answers at {address} within {CONNECT_SECONDS} s; {how}") from None
    except Exception as error:  # another service's answer, read as Dask's, fails in any way
        raise EnvironmentUnusable(f"what answers at {address} is not a Dask scheduler ({first_line(error)}); {how}") from None
    if kind != "Scheduler":
        raise UsageError(f"--scheduler {address}: this is a {kind}; expected the address of the scheduler that it belongs to")
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what it would say of a lost scheduler is said with the result
    return Client(address, timeout=CONNECT_SECONDS, set_as_default=False, name="vmfuzz")


async def _kind_of(address: str) -> str:
    """What answers there: "Scheduler", "Worker", "Nanny"."""
    from distributed.comm import connect as connect_to
    from distributed.core import send_recv
    from distributed.security import Security

    comm = await connect_to(address, timeout=CONNECT_SECONDS, **Security().get_connection_args("client"))
    try:
        return str((await send_recv(comm, op="identity"))["type"])
    finally:
        await comm.close()


def members(client: Client, addresses: Iterable[str], executor: str, cpu: str | None) -> tuple[dict[str, FarProcessor], dict[str, str]]:
    """What the workers at these addresses execute on, and for those that cannot take part why not, both by address.

    `executor`, `cpu`: what the campaign asks for; see `cluster_worker.chosen`.
    """
    wanted = set(addresses)
    problems = _other_versions(client, wanted)
    found: dict[str, FarProcessor] = {}
    able = sorted(wanted - set(problems))
    answers = client.run(cluster_worker.describe, executor, cpu, cluster_worker.sources(), workers=able, on_error="return") if able else {}
    for address in able:
        answer = answers.get(address, "it went away")
        if not isinstance(answer, dict):
            problems[address] = f"cannot take part: {first_line(answer)}"
        elif "error" in answer:
            problems[address] = answer["error"]
        else:
            found[address] = FarProcessor.of(answer)
    return found, problems


def _other_versions(client: Client, addresses: set[str]) -> dict[str, str]:
    """Why workers cannot do as this process does: another vmfuzz, or another version of what draws candidates."""
    versions = client.get_versions(packages=list(_SAME))["workers"]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    problems = {}
    for address in sorted(addresses):
        packages = (versions.get(address) or {}).get("packages")
        if packages is None:
            continue  # it went away, which is seen later
        there = {"Python": ".".join(packages["python"].split(".")[:2]), **{name: packages.get(name) for name in _SAME}}
        here = {"Python": python, **{name: metadata.version(name) for name in _SAME}}
        differ = [f"{name} {there[name] or 'not installed'} (here {here[name]})" for name in here if there[name] != here[name]]
        if differ:
            problems[address] = f"has {', '.join(differ)}"
    return problems


def refuse(problems: dict[str, str]) -> NoReturn:
    """Raise EnvironmentUnusable that names the workers and what is wrong with each."""
    lines = [f"worker {address}: {text}" for address, text in sorted(problems.items())]
    more = f"; and {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
    raise EnvironmentUnusable(
        "; ".join(lines[:_NAMED]) + more + ". All workers need what is installed here (pip install 'vmfuzz[cluster]' of the same version) "
        "and an executor that works (`vmfuzz doctor` there); repair or stop these workers"
    )


def first_line(error: object) -> str:
    """An exception in one line: its kind, and the beginning of its text."""
    lines = str(error).strip().splitlines()
    return ": ".join([type(error).__name__, *(line[:200] for line in lines[:1])])
