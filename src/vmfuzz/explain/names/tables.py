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
base       bases
ctl        ctls ctrl ctrls control controls cntl
ctl2       control2 ctrl2 controls2 ctls2
function   functions func vmfunction vmfunc
proc       cpu processor cpubased procbased processorbased
pin        pinbased
secondary  2nd sec secondaryexec second secondaryprocbased
tertiary   3rd tertiaryexec
primary    pri 1st prim
entry      vmentry vmenter enter entries
exit       vmexit exits exiting
intr       interrupt interruption int interrupts intrpt interruptions inj injection
info       information inf
error      err errors
code       cod
len        length ilen
instr      instruction insn inst
vminstruction vminstr
addr       adr address addresses phys physaddr
ptr        pointer ptrs
exc        exception exceptions xcpt xcpts excp except
vec        vector
count      cnt num
mask       msk masks
match      mtch
qual       qualification qualif
preempt    preemption
bitmap     bmp bitmaps
interruptibility intrstate interruptability
activity   actv
virtual    virt
posted     posting
shadow     shadows
vpid       vpids
eptp       eptptr
pdpte      pdptr pdptes pdptrs
pdpte0     pdptr0
pdpte1     pdptr1
pdpte2     pdptr2
pdpte3     pdptr3
debugctl   dbgctl dbgctlmsr debugcontrol
guest      guests gst
host       hst
link       linkage
vapic      vapicaddr
ldtr       ldt
gdtr       gdt
idtr       idt
reason     reasons
tsc        timestamp
segment    segments seg
errorcode  ec errcode
pagefault  pf
proc2      procbased2
ve         virtxcpt
-          k vms vmcs12 vmcs02 evmcs
-          vmcs vmx vmcs16 vmcs32 vmcs64 vmcsn vmcs16bit 16bit 32bit 64bit natural nat width ia32 field fields full f
-          the of for based exec execution vmexec x vm raw value val ro readonly n u16 u32 u64 enum bits bit
"""

#: Words in a row that are read as one, tried before the words; the longest first.
_PHRASES: Final = """
guest host mask             mask
guest/host mask             mask
access right                ar
access rights               ar
ar bytes                    ar
r flags                     rflags
e flags                     rflags
ar byte                     ar
task register               tr
ldt register                ldtr
local descriptor table      ldtr
global descriptor table     gdtr
interrupt descriptor table  idtr
debug ctl                   debugctl
debug control               debugctl
debug controls              debugctl
dbg ctl                     debugctl
perf global ctl             perfglobal
perf global ctrl            perfglobal
perf global control         perfglobal
perf glob ctl               perfglobal
sysenter cs                 sysentercs
sysenter esp                sysenteresp
sysenter rsp                sysenteresp
sysenter eip                sysentereip
sysenter rip                sysentereip
pending dbg                 pendingdebug
pending debug               pendingdebug
pending db                  pendingdebug
page fault                  pagefault
extended page table         ept
guest physical              guestphysical
guest phys addr             guestphysical addr
guest linear                guestlinear
virtual processor           vpid
virtual exception           ve
virtualization exception    ve
virt exception              ve
error code                  errorcode
err code                    errorcode
i o                         io
pdpte 0                     pdpte0
pdpte 1                     pdpte1
pdpte 2                     pdpte2
pdpte 3                     pdpte3
idt vec info                idtvectoring info
idt vec errorcode           idtvectoring errorcode
perf ctl                    perfglobal
type attr                   ar
es access                   es ar
cs access                   cs ar
ss access                   ss ar
ds access                   ds ar
fs access                   fs ar
gs access                   gs ar
ldtr access                 ldtr ar
tr access                   tr ar
exec ctl 2                  secondary ctl
seccpu                      secondary proc
vmfunc                      vmfunction
vm function                 vmfunction
vm functions                vmfunction
vm func                     vmfunction
s cet                       scet
interrupt ssp table         isst
intr ssp table              isst
int ssp table               isst
ssp table                   isst
smm base                    smbase
sm base                     smbase
guest intr status           intrstatus
interrupt status            intrstatus
intr status                 intrstatus
preempt timer               preempttimer
preemption timer            preempttimer
pause loop                  ple
pause loop exiting          ple
vm exit                     exit
vm entry                    entry
vm instruction              vminstruction
vm instr                    vminstruction
last pid                    lastpid
low pasid                   lowpasid
high pasid                  highpasid
pasid low                   lowpasid
pasid high                  highpasid
pasid dir0                  lowpasid
pasid dir1                  highpasid
spec ctrl                   specctrl
spec ctl                    specctrl
posted interrupt            pi
posted intr                 pi
posted int                  pi
apic access                 apicaccess
access addr                 accessaddr
interrupt window            intrwindow
read shadow                 shadow
executive vmcs              executive
lbr ctl                     lbrctl
lbr ctrl                    lbrctl
rtit ctl                    rtitctl
rtit ctrl                   rtitctl
idt vectoring               idtvectoring
gcr0                        guest cr0
gcr3                        guest cr3
gcr4                        guest cr4
grip                        guest rip
grsp                        guest rsp
grflags                     guest rflags
gefer                       guest efer
hcr0                        host cr0
hcr3                        host cr3
hcr4                        host cr4
hrip                        host rip
hrsp                        host rsp
hefer                       host efer
idt vect                    idtvectoring
"""

#: What other programs call a field where the words differ from vmfuzz's own name. Area words (guest, host) are left out.
_ALIASES: Final = """
vpid                                     virtual processor id; virtual processor identifier; processor id
posted_interrupt_notification_vector     posted intr nv; pi nv; posted intr notification; pir vec
posted_interrupt_notification_vector     post intr notification vec; post intr notification vector
posted_interrupt_notification_vector     posted intr vec; posted intr notify vector; pi notification vec; pinv
eptp_index                               ept index
last_pid_pointer_index                   last pid ptr idx; last pid pointer
guest_interrupt_status                   interrupt status; intr status
guest_es_selector                        es
guest_cs_selector                        cs
guest_ss_selector                        ss
guest_ds_selector                        ds
guest_fs_selector                        fs
guest_gs_selector                        gs
guest_ldtr_selector                      ldtr
guest_tr_selector                        tr
host_es_selector                         es
host_cs_selector                         cs
host_ss_selector                         ss
host_ds_selector                         ds
host_fs_selector                         fs
host_gs_selector                         gs
host_tr_selector                         tr
guest_gdtr_base                          gdtr; gdtr addr
guest_idtr_base                          idtr; idtr addr
host_gdtr_base                           gdtr
host_idtr_base                           idtr
io_bitmap_a                              io bitmap a addr; iobitmapa
io_bitmap_b                              io bitmap b addr; iobitmapb
msr_bitmap                               msr bitmap addr
vm_exit_msr_store_address                exit msr store; exit msr store ptr; exit msr store list
vm_exit_msr_load_address                 exit msr load; exit msr load ptr
vm_entry_msr_load_address                entry msr load; entry msr load ptr; entry msr addr; entry msr adr
vm_exit_msr_store_count                  exit msr store cnt
vm_entry_msr_load_count                  entry msr cnt; entry msr count
executive_vmcs_pointer                   executive; executive ptr
tsc_offset                               tsc off
virtual_apic_address                     virtual apic page addr; vapic page addr; vapic addr; vapic; virtual apic page; vapic pageaddr
virtual_apic_address                     virtual apic
apic_access_address                      apic access; apicaccess addr; apic accessaddr; apic access page; apic accessaddr
posted_interrupt_descriptor              pi desc addr; posted intr desc; pi desc; posted interrupt desc addr; pi descriptor addr; pir desc
vm_function_controls                     vm function ctl; function; vmfunc ctl; vm func controls; vm functions
eptp                                     ept ptr; ept pointer
eptp_list_address                        eptp list; ept list addr; ept ptr list addr
eoi_exit_bitmap_0                        eoi exit bitmap0; eoi bitmap 0; eoi bitmap0; eoi exit 0; eoi exit0
eoi_exit_bitmap_1                        eoi exit bitmap1; eoi bitmap 1; eoi bitmap1; eoi exit 1; eoi exit1
eoi_exit_bitmap_2                        eoi exit bitmap2; eoi bitmap 2; eoi bitmap2; eoi exit 2; eoi exit2
eoi_exit_bitmap_3                        eoi exit bitmap3; eoi bitmap 3; eoi bitmap3; eoi exit 3; eoi exit3
vmread_bitmap                            vmread bitmap addr; vmread bitmap ptr
vmwrite_bitmap                           vmwrite bitmap addr; vmwrite bitmap ptr
virtualization_exception_information     ve info; ve info addr; ve information address
virtualization_exception_information     virt exception info addr; virtualization exception info addr; ve exc info addr
pconfig_exiting_bitmap                   pconfig bitmap
xss_exiting_bitmap                       xss exit bitmap; xss exit bitmap addr
sub_page_permission_table_pointer        subpage permission table ptr
sub_page_permission_table_pointer        spptp; spp table ptr; spptp addr; sub page perm table ptr
tsc_multiplier                           tsc mult
low_pasid_directory                      pasid low dir; low pasid dir addr
high_pasid_directory                     pasid high dir; high pasid dir addr
hlat_pointer                             hlatp; hlat ptr
pid_pointer_table                        pid ptr table addr; pid pointer table addr
shared_ept_pointer                       shared eptp
tertiary_processor_based_controls        tertiary; tertiary ctl; proc exec3; proc ctl 3
secondary_processor_based_controls       secondary; secondary ctl; secondary proc; proc exec2; proc2; proc ctl2; ctl2; proc based ctl2
secondary_processor_based_controls       proc exec control2; cpu based vm exec ctl 2
primary_processor_based_controls         primary; primary ctl; proc ctl; proc; primary proc; procexec; cpubased
pin_based_controls                       pin; pin ctl; pinexec
secondary_vm_exit_controls               secondary exit ctl; exit ctl 2; exit ctls2
vm_exit_controls                         exit ctl; primary exit ctl; ctl exit; exit ctls
vm_entry_controls                        entry ctl; ctl entry; entry ctls
guest_physical_address                   guest paddr; info guest paddr
guest_physical_address                   guestphysical addr; guestphysical; gpa; exit info guestphysical addr
guest_linear_address                     info guestlinear addr
guest_linear_address                     guestlinear addr; guestlinear; gla; linear addr; exit guestlinear addr; exit info guestlinear addr
io_rcx                                   exit info io ecx; exit info io rcx; info io rcx
io_rsi                                   exit info io esi; exit info io rsi; info io rsi
io_rdi                                   exit info io edi; exit info io rdi; info io rdi
io_rip                                   exit info io eip; exit info io rip; info io rip
vmcs_link_pointer                        link; link ptr; link pointer address; vmcslink
guest_ia32_debugctl                      debugctl
guest_ia32_perf_global_ctrl              perfglobal; perfglobctl; perf global
host_ia32_perf_global_ctrl               perfglobal; perfglobctl; perf global
guest_ia32_bndcfgs                       bndcfgs; bndcfg
exception_bitmap                         exc bitmap; execution bitmap; exceptionbitmap; xcpt bitmap
page_fault_error_code_mask               pagefault error mask; pfecmask; pfec mask; pagefault err code mask; pf mask; pagefault errorcode mask
page_fault_error_code_match              pagefault error match; pfecmatch; pfec match; pf match; pagefault error code match
cr3_target_count                         cr3 target cnt; cr3 targets
vm_entry_interruption_info               entry intr info; entry intr; entry int info; entry event; entry intr information field; entry injection info
vm_entry_exception_error_code            entry exc errorcode; entry errorcode; entry err; entry exc error; entry exception error code; entry error
vm_entry_instruction_length              entry instr len; entry len; entry instr; entry ilen
tpr_threshold                            tpr thresh; tpr; task privilege threshold; task p rivilege threshold
ple_gap                                  ple gap; pause loop exiting gap
ple_window                               ple window; pause loop exiting window
vm_instruction_error                     info vminstruction error
vm_instruction_error                     instr error; vminstruction error; vminstruction err number; instr error number; vminstruction error field
exit_reason                              exit reason; reason; exit info reason; vmexit reason
vm_exit_interruption_info                exit intr info; exit intr; exit int info; exit info intr; exit info intr info
vm_exit_interruption_error_code          exit intr errorcode; exit errorcode; exit intr error; exit int error code; exit err
vm_exit_interruption_error_code          exit info exception error code; exit info intr errorcode
vm_exit_instruction_length               exit instr len; exit len; exit info instr len; exit ilen
vm_exit_instruction_info                 exit instr info; instr info; exit info instr info
idt_vectoring_info                       idt vec
idt_vectoring_info                       idtvectoring info; idtvectoring; exit info idtvectoring; vectoring info; idtvectoring info field
idt_vectoring_error_code                 idt err; exit info idtvectoring errorcode; info idtvectoring errorcode
idt_vectoring_error_code                 idtvectoring errorcode; idtvectoring error; vectoring errorcode; exit info idt vectoring error code
guest_interruptibility_state             interruptibility; interruptibility info; interruptibility state; intr state; int state; intr status state
guest_activity_state                     activity; activity state; actv; act state; activity info
guest_smbase                             smbase; smbase addr
guest_ia32_sysenter_cs                   sysentercs; sysenter cs
host_ia32_sysenter_cs                    sysentercs; sysenter cs
guest_ia32_sysenter_esp                  sysenteresp; sysenter esp
host_ia32_sysenter_esp                   sysenteresp; sysenter esp
guest_ia32_sysenter_eip                  sysentereip; sysenter eip
host_ia32_sysenter_eip                   sysentereip; sysenter eip
vmx_preemption_timer_value               preempttimer; preempt timer value; timer value
cr0_guest_host_mask                      cr0 mask
cr4_guest_host_mask                      cr4 mask
cr0_read_shadow                          cr0 shadow
cr4_read_shadow                          cr4 shadow
cr3_target_value_0                       cr3 target 0; cr3 target0; cr3 target value0; cr3 target val0; cr3 target base
cr3_target_value_1                       cr3 target 1; cr3 target1; cr3 target value1; cr3 target val1
cr3_target_value_2                       cr3 target 2; cr3 target2; cr3 target value2; cr3 target val2
cr3_target_value_3                       cr3 target 3; cr3 target3; cr3 target value3; cr3 target val3
exit_qualification                       exit qual; qual; exit info qual; exit info qualification
guest_rsp                                rsp; esp; sp; stack; stack pointer
host_rsp                                 rsp; esp; sp
guest_rip                                rip; eip; ip; pc; instruction pointer
host_rip                                 rip; eip; ip; pc
guest_rflags                             rflags; eflags; rfl
guest_pending_debug_exceptions           pendingdebug exc; pendingdebug; debugexceptions; debug exc; pending debug; pending dbe
guest_ia32_s_cet                         scet
host_ia32_s_cet                          scet
guest_ia32_interrupt_ssp_table_addr      isst; isst addr; interrupt ssp table addr; ssp table
host_ia32_interrupt_ssp_table_addr       isst; isst addr; interrupt ssp table addr; ssp table
guest_ia32_pkrs                          pkrs
host_ia32_pkrs                           pkrs
guest_ia32_efer                          efer
host_ia32_efer                           efer
guest_ia32_pat                           pat
host_ia32_pat                            pat
"""


def _pairs(table: str) -> list[tuple[str, list[str]]]:
    return [(line.split()[0], line.split()[1:]) for line in table.strip().splitlines()]


#: Every spelling of a word -> the word; "" for words that say nothing.
WORDS: Final[dict[str, str]] = {spelling: "" if word == "-" else word for word, spellings in _pairs(_WORDS) for spelling in spellings}
#: (words in a row, what they are read as), the longest first.
PHRASES: Final[list[tuple[tuple[str, ...], tuple[str, ...]]]] = sorted(
    ((tuple(left.split()), tuple(right.split())) for left, right in (row.strip().split("  ", 1) for row in _PHRASES.strip().splitlines())),
    key=lambda pair: -len(pair[0]),
)
#: (vmfuzz's name, labels).
ALIASES: Final[list[tuple[str, list[str]]]] = [
    (line.split(None, 1)[0], [label.strip() for label in line.split(None, 1)[1].split(";")]) for line in _ALIASES.strip().splitlines()
]
