"""SDM Vol. 3C, "Basic VM-Entry Checks": conditions on the launching processor, in the order in which the section lists them.

What ends in #UD, #GP or an exit to an outer hypervisor (the processor is not in VMX root operation at CPL 0) never reaches a VMCS and is
not modelled; see NOT_APPLICABLE in checks/__init__.py.
"""

from vmfuzz.arch.controls import Secondary
from vmfuzz.model.check import Fails, Section
from vmfuzz.model.operands import live, may_be_1

basic = Section("Basic VM-Entry Checks", Fails.NO_CURRENT_VMCS)

LAUNCH = live.launch_instruction == 0
RESUME = live.launch_instruction == 1

basic.check(
    "basic.current",
    "There must be a current VMCS.",
    must=live.no_current_vmcs == 0,
)
basic.check(
    "basic.shadow",
    "The current VMCS must not be a shadow VMCS.",
    must=live.shadow_vmcs == 0,
    requires=may_be_1(Secondary.VMCS_SHADOWING),
)
basic.check(
    "basic.movss",
    "Events must not be blocked by MOV SS when the instruction executes.",
    must=live.blocking_by_mov_ss == 0,
    fails=Fails.MOV_SS,
)
basic.check(
    "basic.launch.clear",
    "For VMLAUNCH, the launch state of the current VMCS must be clear.",
    when=LAUNCH,
    must=live.launch_state == 0,
    fails=Fails.NON_CLEAR,
)
basic.check(
    "basic.resume.launched",
    "For VMRESUME, the launch state of the current VMCS must be launched.",
    when=RESUME,
    must=live.launch_state == 1,
    fails=Fails.NON_LAUNCHED,
)
