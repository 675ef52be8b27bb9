"""Tables for reading field labels: how words are spelled, and what other programs call each field.

Names that need no row here are those made of the words of vmfuzz's own name (`guest_cs_access_rights` is also GUEST_CS_AR_BYTES, GuestCsAr,
vmcs::guest::CS_ACCESS_RIGHTS, "Guest CS access rights" ...), because labels are compared as sets of words after `WORDS` and `PHRASES`.
"""

from __future__ import annotations

from typing import Final

#: Spellings of one word: every word on the right is read as the one on the left; "-" stands for words that say nothing.
_WORDS: Final = """
ar         attr attrs attrib attribs attribute attributes rights right accessrights arbyte arbytes
sel        selector selectors
limit      lim limits lmt
ctl        ctls ctrl ctrls control controls cntl
ctl2       control2 ctrl2 controls2 ctls2
function   functions func vmfunction vmfunc
proc       cpu processor cpubased procbased processorbased
pin        pinbased
secondary  2nd sec secondaryexec second secondaryprocbased
primary    pri 1st prim
entry      vmentry vmenter enter entries
exit       vmexit exits exiting
intr       interrupt interruption int interrupts intrpt interruptions inj injection
info       information inf
error      err errors
len        length ilen
instr      instruction insn inst
vminstruction vminstr
addr       adr address addresses phys physaddr
ptr        pointer ptrs
exc        exception exceptions xcpt xcpts excp except
vec        vector
count      cnt num
qual       qualification qualif
preempt    preemption
bitmap     bmp bitmaps
interruptibility intrstate interruptability
activity   actv
virtual    virt
eptp       eptptr
pdpte#     pdptr#
debug      dbg
debugctl   dbgctl dbgctlmsr debugcontrol
guest      gst
host       hst
^dtr       ^dt
rflags     eflags rfl
errorcode  ec errcode
pagefault  pf
ve         virtxcpt
-          k vms vmcs12 vmcs02 evmcs
-          vmcs vmx vmcs16 vmcs32 vmcs64 vmcsn vmcs16bit 16 32 64 16bit 32bit 64bit natural nat width ia32 field fields full f
-          the of for based exec execution vmexec x vm raw value val ro readonly n u16 u32 u64 enum bits bit
"""

#: Words in a row that are read as one, tried before the words; the longest first.
_PHRASES: Final = """
guest/host mask             mask
access rights               ar
ar bytes                    ar
r flags                     rflags
e flags                     rflags
task register               tr
local descriptor table      ldtr
global descriptor table     gdtr
interrupt descriptor table  idtr
extended page table         ept
debug controls              debugctl
page fault                  pagefault
guest physical              guestphysical
guest phys addr             guestphysical addr
guest linear                guestlinear
virtualization exception    ve
virt exception              ve
err code                    errorcode
i o                         io
idt vec info                idtvectoring info
seccpu                      secondary proc
int ssp table               isst
ssp table                   isst
sm base                     smbase
pause loop exiting          ple
posted int                  pi
read shadow                 shadow
lbr ctrl                    lbrctl
rtit ctrl                   rtitctl
idt vectoring               idtvectoring
"""

#: What other programs call a field where the words differ from vmfuzz's own name. Area words (guest, host) are left out.
_ALIASES: Final = """
*_@_selector                             @
guest_ldtr_selector                      ldtr
vpid                                     virtual processor id; virtual processor identifier; processor id
posted_interrupt_notification_vector     pi nv; posted intr notification; pir vec; post intr notification vector; posted intr vec
posted_interrupt_notification_vector     posted intr notify vector; pinv
eptp_index                               ept index
last_pid_pointer_index                   last pid ptr idx; last pid pointer
*_~_base                                 ~; ~ addr
msr_bitmap                               msr bitmap addr
vm_exit_msr_store_address                exit msr store; exit msr store ptr; exit msr store list
vm_%_msr_load_address                    % msr load; % msr load ptr; % msr adr
vm_entry_msr_load_count                  entry msr count
executive_vmcs_pointer                   executive
virtual_apic_address                     vapic page addr; vapic; virtual apic page; vapic pageaddr; virtual apic
apic_access_address                      apic access; apic access page; apic accessaddr
posted_interrupt_descriptor              pi desc; pir desc
vm_function_controls                     vm functions
eptp                                     ept pointer
eptp_list_address                        eptp list; ept list addr; ept ptr list addr
eoi_exit_bitmap_#                        eoi exit bitmap#; eoi bitmap #; eoi bitmap#; eoi exit #; eoi exit#
virtualization_exception_information     ve exc info addr
pconfig_exiting_bitmap                   pconfig bitmap
sub_page_permission_table_pointer        subpage permission table ptr; spptp; spp table ptr; sub page perm table ptr
low_pasid_directory                      pasid low dir
high_pasid_directory                     pasid high dir
hlat_pointer                             hlatp
pid_pointer_table                        pid pointer table addr
shared_ept_pointer                       shared eptp
tertiary_processor_based_controls        tertiary; proc exec3; proc ctl 3
secondary_processor_based_controls       secondary; secondary proc; proc exec2; proc2; ctl2; proc exec control2
primary_processor_based_controls         primary; primary proc; procexec; cpubased
pin_based_controls                       pin; pinexec
secondary_vm_exit_controls               exit ctls2
vm_exit_controls                         primary exit ctl
guest_physical_address                   guest paddr; info guest paddr; guestphysical; gpa; exit info guestphysical addr
guest_linear_address                     info guestlinear addr; guestlinear; gla; linear addr; exit guestlinear addr; exit info guestlinear addr
io_r$                                    exit info io e$; exit info io r$; info io r$
vmcs_link_pointer                        link; vmcslink
*_ia32_perf_global_ctrl                  perfglobctl; perf global; perf glob ctl; perf ctl
exception_bitmap                         execution bitmap; exceptionbitmap
page_fault_error_code_&                  pagefault error &; pfec&; pfec &; pf &
vm_entry_interruption_info               entry intr; entry event
vm_entry_exception_error_code            entry errorcode; entry exc error; entry error
vm_%_instruction_length                  % instr; % ilen; % info instr len
tpr_threshold                            tpr thresh; tpr; task privilege threshold; task p rivilege threshold
vm_instruction_error                     info vminstruction error
exit_reason                              reason; exit info reason
vm_exit_interruption_error_code          exit errorcode; exit intr error; exit err; exit info exception error code; exit info intr errorcode
vm_exit_instruction_info                 instr info
idt_vectoring_info                       idt vec; idtvectoring; exit info idtvectoring; vectoring info
idt_vectoring_error_code                 idt err; info idtvectoring errorcode; idtvectoring error; vectoring errorcode; exit info idtvectoring errorcode
guest_interruptibility_state             interruptibility; interruptibility info; int state; intr status state
guest_activity_state                     actv; act state; activity info
vmx_preemption_timer_value               timer value
cr3_target_value_#                       cr3 target#; cr3 target value#; cr3 target val#
cr3_target_value_0                       cr3 target base
exit_qualification                       qual; exit info qualification
*_ia32_sysenter_esp                      sysenter rsp
*_ia32_sysenter_eip                      sysenter rip
*_rsp                                    esp; sp; stack
*_rip                                    eip; ip; pc; instr ptr
guest_pending_debug_exceptions           debugexceptions; debug exc; pending debug; pending dbe
*_ia32_interrupt_ssp_table_addr          ssp table
"""

#: Signs in these tables and what each stands for, one row for each: an index, a register or the middle of its name, an area.
_EACH: Final = {
    "#": "0123",
    "@": ("es", "cs", "ss", "ds", "fs", "gs", "tr"),
    "^": "lgi",
    "~": ("gdtr", "idtr"),
    "*": ("guest", "host"),
    "%": ("entry", "exit"),
    "&": ("mask", "match"),
    "$": ("cx", "si", "di", "ip"),
}


def _rows(table: str) -> list[str]:
    rows = table.strip().splitlines()
    for sign, names in _EACH.items():
        rows = [row.replace(sign, name) for row in rows for name in (names if sign in row else ("",))]
    return rows


#: Every spelling of a word -> the word; "" for words that say nothing.
WORDS: Final[dict[str, str]] = {
    spelling: "" if word == "-" else word for word, *spellings in map(str.split, _rows(_WORDS)) for spelling in spellings
}
#: Words in a row -> what they are read as.
PHRASES: Final[dict[str, str]] = {left: right.strip() for left, right in (row.split("  ", 1) for row in _rows(_PHRASES))}
#: (vmfuzz's name, labels).
ALIASES: Final[list[tuple[str, list[str]]]] = [
    (name, labels.split("; ")) for name, labels in (row.split(None, 1) for row in _rows(_ALIASES))
]
