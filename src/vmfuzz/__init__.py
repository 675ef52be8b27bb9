"""vmfuzz: a property-based fuzzer for Intel VM-entry checks. What will VMLAUNCH do with this VMCS, and why?"""

from __future__ import annotations

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.outcomes import Kind, Outcome, Outcomes
from vmfuzz.execute.base import open_executor
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
