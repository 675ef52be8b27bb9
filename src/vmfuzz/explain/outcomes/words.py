"""Outcomes in words: the names that programs have for them (vmentry_invalid_ctrl), and sentences of eight languages ("the error code is 7").

Where a program gives a number in a phrase of its own, phrases.py has it. Public hypervisors spell the same few names in C, Rust, Zig, Go and Swift:
their own is what stands before and behind the words in the table here. For sentences there is a table of ideas: of what they must speak, by language.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Final

from vmfuzz.explain.outcomes.context import SENTENCE_ENDS, first_told, has_happened, is_code, is_supposed, place_of
from vmfuzz.explain.reported import ENTRY_ERRORS, FAILED_ENTRY, Report, Reported
from vmfuzz.explain.text.numbers import to_unsigned
from vmfuzz.patterns import deferred

#: The words of a name, in a program perhaps without the signs between them -> its outcome (error 0: the name gives no number).
_NAMES: Final = {
    # Linux' asm/vmx.h and HAXM (VMXERR_), Xen (VMX_INSN_), XMHF (VM_INST_ERRNO_), Ymir (vmentry_), HyperPlatform (k), hvpp and Rust's x86 crate (With)
    r"launch_(?:with_)?non_clear": Reported("", error=4),
    r"resume_(?:with_)?non_launch(?:ed)?": Reported("", error=5),
    r"resume_(?:after|with)_vmxoff": Reported("", error=6),
    r"invalid_(?:control|ctrl)s?": Reported("", error=7),
    r"invalid_host": Reported("", error=8),
    r"invalid_executive_vmcs_pointer": Reported("", error=16),
    r"non_launched_executive": Reported("", error=17),
    r"executive_vmcs_pointer_not_vmxon_pointer": Reported("", error=18),
    r"invalid_vm_execution_controls_in_executive": Reported("", error=25),
    r"(?:events?_)?block(?:ed)?_(?:by_)?mov_ss": Reported("", error=26),
    # FreeBSD's vmm, HAXM, HyperPlatform, QEMU, Bochs, VirtualBox; Windows' WinHvPlatformDefs.h
    r"invalid_guest|entry_fail(?:ed|ure)?_(?:guest|gs)": Reported("", FAILED_ENTRY | 33),
    r"w_hv_run_vp_exit_reason_invalid_vp_register_value": Reported("", FAILED_ENTRY | 33),
    r"msr_load_fail|(?:err|entry_fail(?:ed|ure)?)_msr(?:_load(?:ing)?)?": Reported("", FAILED_ENTRY | 34),
    r"mce_during_vm_entry|(?:err|fail(?:ed|ure)?)_machine_check": Reported("", FAILED_ENTRY | 41),
    # VirtualBox' include/VBox/err.h
    r"unable_to_(?:start|resume)_vm": Reported("", error=0, remark="VBox.log gives the VM-instruction error near this name"),
    r"invalid_vmcs_ptr": Reported(""),
}
#: What a program puts around these words.
_AROUND: Final = (
    r"(?:(?:k|e|hv|vmx?|vmcs|v?err(?:ors?|no)?|fail(?:ed|ure)?|inst(?:r(?:uction)?)?|insn|code|with|by|due|to|in|after|is|reason|exit|fields?|state|entry|"
    r"enter|launch|resume|the|rc|status|result)_)*"
)
_NAME: Final = deferred(rf"{_AROUND}(?:{'|'.join(f'({words})' for words in _NAMES)})_{_AROUND}".replace("_", "_?"), re.IGNORECASE)
_IDENTIFIER: Final = deferred(r"(?<![\w$])[A-Za-z_]\w{7,80}(?!\w|\((?!\):))")
#: What says, in the name or beside it, that it is one of a VM entry.
_OF_ENTRY: Final = deferred(
    r"entry|enter|launch|resume|vm(?:[x_e]|inst|fail)|exit[_ ]?(?:reason|invalid)|whv|\b(?:0x21|0n33|33)\b", re.IGNORECASE
)
#: An idea -> its words by language: English, German, French, Spanish, Russian, Chinese, Japanese, Korean.
_IDEAS: Final[dict[str, tuple[str, ...]]] = {
    "entry": (
        r"\bvm_?(?:launch|resume)\w*|\bvm[ _-]?(?:entry|entries|enter|entering)\b(?! exception)|\bvmentry\w*|"
        r"\b(?:enter|launch|start|run)(?:ing)? (?:the |my )?guest\b", r"\bVM-?(?:Eintritt|Start)\b",
        r"\bentr[ée]e (?:dans la |en |de la )?VM\b", r"\bentrada (?:a|en|de) la VM\b",
        r"вход\w* в (?:ВМ|гост\w+|VM)|запуск\w* (?:ВМ|гост\w+)", r"虚拟机进入|进入虚拟机|进入客户机|VM ?进入|启动虚拟机",
        r"VM ?エントリ\w*|VM ?への?(?:移行|突入)", r"VM ?(?:진입|엔트리)",
    ),
    "fails": (
        r"\bfail(?:s|ed|ure|ures|ing)?\b|\bVM_?fail\w*|\berror(?:s|ed)?\b|\bunsuccessful\b|\brefused\b|\brejected\b",
        r"\bfehlgeschlagen|\bschl[äa]gt\b[^.\n]{0,60}\bfehl\b|\bfehlschl\w+|\bscheiter\w+|\bFehler\w*|\bmisslingt\b",
        r"\b[ée]chou\w+|\b[ée]chec\w*|\berreur\w*", r"\bfall(?:a|ó|o|an|aba|ando|ar)\b|\bfracas\w+|\berror(?:es)?\b",
        r"не уда[её]тся|не удал\w+|ошибк\w+|не проходит|сбо[йия]\w*|завершается неудач\w+|падает", r"失败|出错|错误|报错",
        r"失敗|エラー|できない|できません", r"실패|오류|에러",
    ),
    "invalid": (
        r"\binvalid|\bnot valid|\bbad", r"\bung[üu]ltig\w*", r"\b(?:invalide|non valide)s?", r"\b(?:inv|no v)[áa]lidos?",
        r"\bне(?:допустим|верн|корректн|правильн)\w+", r"无效|非法|不合法", r"無効|不正", r"잘못된?|유효하지(?: 않은)?",
    ),
    "guest": (
        r"guest[ _-]?state", r"Gast-?zustand\w*|Zustand des Gast\w*",
        r"(?:[ée]tat )?(?:de l['’ ]?|du syst[èe]me )?invit[ée]", r"(?:estado )?(?:del? )?(?:hu[ée]sped|invitado)",
        r"состояни\w+ гост\w+", r"(?:客户机|客户|来宾|访客|宾客|虚拟机|guest) ?状态", r"ゲストの?(?:状態|ステート)", r"게스트 ?상태",
    ),
    "controls": (
        r"(?:VM-?(?:execution|entry|exit)? ?)?control(?:s|[ -]fields?(?:\(s\))?)?\b", r"(?:Kontroll|Steuer)\w+",
        r"champs? de contr[ôo]le", r"campos? de control",
        r"(?:управляющ|контрольн)\w+ пол\w+|пол\w+ управления", r"控制(?:域|字段|位)", r"(?:制御|コントロール)(?:フィールド)?", r"제어 ?필드",
    ),
    "host": (
        r"host[ -]?state(?:[ -]fields?(?:\(s\))?)?", r"Host-?zustand\w*", r"(?:[ée]tat )?(?:de l['’ ]?)?h[ôo]te",
        r"(?:estado )?(?:del? )?(?:host|anfitri[óo]n)", r"состояни\w+ хост\w+", r"(?:宿主机|主机|host) ?状态", r"ホストの?状態", r"호스트 ?상태",
    ),
    "code": (
        r"\b(?:vm[- ]?)?(?:instruction[ _-]?)?err(?:or)?[ _-]?(?:code|number|no|num)\b|\berrno\b|\berror\b", r"\bFehler(?:code|nummer)\w*",
        r"\b(?:code|num[ée]ro) d['’]erreur", r"\b(?:c[óo]digo|n[úu]mero) de error", r"(?:код|номер)\w* ошибки|ошибк\w+",
        r"错误(?:代码|码|号|编号)|错误 ?(?:为|是|:|：)", r"エラー(?:コード|番号)", r"(?:오류|에러) ?(?:코드|번호)",
    ),
}  # fmt: skip
_WORDS: Final = {idea: f"(?:{'|'.join(words)})" for idea, words in _IDEAS.items()}
#: What an invalid one of these is.
_INVALID: Final = {"guest": (FAILED_ENTRY | 33, None), "controls": (None, 7), "host": (None, 8)}
#: Between a noun and "invalid", in either order.
_LINK: Final = r"(?: (?:is|was|are|being|ist|war|est|es))?[ _-]?[的なが가]?[ _-]?"
_SAID: Final = {idea: deferred(_WORDS[idea], re.IGNORECASE) for idea in ("fails", "entry", "invalid")} | {
    noun: deferred("{0}{1}{2}|{2}{1}{0}".format(_WORDS["invalid"], _LINK, _WORDS[noun]), re.IGNORECASE) for noun in _INVALID
}
_CODE: Final = deferred(
    rf"{_WORDS['code']}[ \t]*(?:(?:is|was|of|gives?|returned|returns?|ist|war|lautet|est|vaut|es|fue|равен|равно|это|是|为|為|は|が|이|는|은|가|with|"
    r"[=:：#])[ \t]*){0,2}[<(\[\"'“]{0,2}(?P<value>(?:0x)?[0-9a-f]{1,8})\b(?!\.?\w)",
    re.IGNORECASE,
)
#: One of these is in every line without letters beyond ASCII that says that something failed.
_FAILING: Final = ("fail", "err", "valid", "refus", "reject", "unsuccess", "fehl", "scheit", "missl", "echou", "echec", "falla", "fracas")
#: No sentence is longer, and so much of one is quoted.
_LONGEST, _QUOTED = 2000, 120
#: So many lines below the one that says that an entry failed belong to it.
_BELOW: Final = 3
#: A line of a program's own that says that an entry failed, not a sentence.
OF_A_PROGRAM: Final = deferred(
    r"\W*(?:[\w.()]+: *)*(?:the )?VM[- ]?(?:LAUNCH|RESUME|ENTRY|ENTER)(?: instruction)?[ :]+fail(?:ed|ure)\b(?: (?:on|in|for|at) [\w #-]{1,20})?\W*",
    re.IGNORECASE,
)


@lru_cache(maxsize=1 << 12)
def meant(words: str) -> Reported | None:
    """The outcome that somebody means who gives a name of it, or the words of one: "invalid guest state"."""
    match = _NAME.fullmatch(words.replace(" ", "_"))
    return replace(list(_NAMES.values())[match.lastindex - 1], text=words) if match and match.lastindex else None


def identified(text: str) -> list[tuple[int, Reported]]:
    """The outcomes that identifiers in the text name, with the numbers of their lines, where they are not denied and no program text."""
    found = []
    for match in _IDENTIFIER.finditer(text):
        outcome = meant(match.group(0))
        place = place_of(text, *match.span()) if outcome is not None else None
        if outcome and place and _OF_ENTRY.search("".join(place)) and has_happened(place, is_code):
            found.append((text.count("\n", 0, match.start()), outcome))
    return found


def in_languages(text: str) -> Reported | None:
    """The outcome that words say: which kind of field is invalid, or an error code beside a failed entry; error 0: only that an entry failed."""
    lines = text.split("\n")
    told = [(number, found) for number, line in enumerate(lines) if (found := _told(line)) is not None]
    sure = first_told([one for one in told if one[1].error != 0])
    # a program's own line says more than what a person tells of it
    pending = sorted((one for one in told if one[1].error == 0), key=lambda one: not OF_A_PROGRAM.fullmatch(one[1].text))
    return sure or next((_with_code(found, lines[number : number + 1 + _BELOW]) for number, found in pending), None)


@lru_cache(maxsize=1 << 13)
def _told(line: str) -> Reported | None:
    """What the first sentence of a line says that says something."""
    small = line.lower()
    if len(line) > _LONGEST or (line.isascii() and not any(word in small for word in _FAILING)):
        return None
    ends = [match.start() for match in SENTENCE_ENDS.finditer(line)]
    sentences = zip((0, *(end + 1 for end in ends)), (*ends, len(line)), strict=True)
    return next((found for begin, end in sentences if (found := _of_sentence(line, begin, end)) is not None), None)


def _of_sentence(line: str, begin: int, end: int) -> Reported | None:
    """What a sentence of a line says."""
    matches = {idea: match for idea in ("fails", "entry") if (match := _SAID[idea].search(line, begin, end))}
    if matches and _SAID["invalid"].search(line, begin, end):
        matches |= {idea: match for idea in _INVALID if (match := _SAID[idea].search(line, begin, end))}
    happened = {idea for idea, match in matches.items() if has_happened(place_of(line, *match.span()), is_code, is_supposed)}
    words = " ".join(line[begin:end].split())[:_QUOTED]
    sure = next((Reported(words, *outcome, kind=Report.SPOKEN) for idea, outcome in _INVALID.items() if idea in happened), None)
    return sure or (Reported(words, error=0, kind=Report.UNNUMBERED) if happened >= {"fails", "entry"} else None)


def _with_code(failed: Reported, lines: list[str]) -> Reported:
    """With the error code on the line that says that an entry failed, or on those below, if it is one that an entry can give."""
    for line in lines:
        for match in _CODE.finditer(line):
            value = to_unsigned(match["value"])
            if value in ENTRY_ERRORS and has_happened(place_of(line, *match.span()), is_supposed):
                words = failed.text if line == lines[0] else f"{failed.text[:80]} {match.group(0)}"
                return Reported(words, error=value, kind=Report.SPOKEN)
    return failed
