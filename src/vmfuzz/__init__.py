"""vmfuzz: a property-based fuzzer for Intel VM-entry checks. What will VMLAUNCH do with this VMCS, and why?"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmfuzz.arch.capabilities import Capabilities
    from vmfuzz.arch.outcomes import Kind, Outcome, Outcomes
    from vmfuzz.execute.kinds import open_executor
    from vmfuzz.model.predict import Prediction, predict
    from vmfuzz.state.batch import VmcsBatch
    from vmfuzz.state.profiles import capabilities, known_good
    from vmfuzz.state.vmcs import Vmcs

__version__ = "0.1.0"

__all__ = [
    "Capabilities",
    "Kind",
    "Outcome",
    "Outcomes",
    "Prediction",
    "Vmcs",
    "VmcsBatch",
    "__version__",
    "capabilities",
    "known_good",
    "open_executor",
    "predict",
]

#: Where the public names are. They are imported when they are used: the command has to hear signals before it imports anything large.
_HOMES = {
    "Capabilities": "arch.capabilities",
    "Kind": "arch.outcomes",
    "Outcome": "arch.outcomes",
    "Outcomes": "arch.outcomes",
    "Prediction": "model.predict",
    "Vmcs": "state.vmcs",
    "VmcsBatch": "state.batch",
    "capabilities": "state.profiles",
    "known_good": "state.profiles",
    "open_executor": "execute.kinds",
    "predict": "model.predict",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'vmfuzz' has no attribute {name!r}")
    from importlib import import_module

    globals()[name] = found = getattr(import_module(f"vmfuzz.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
