"""Outcomes in words of eight languages: "vmlaunch fails: invalid guest state", "ErrorCode <7>", "the error code is 7", and that an entry failed at all.

A table of ideas: what a text must speak of, in each language's words. Where a program gives a number in a phrase of its own, phrases.py has it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from vmfuzz.explain.outcomes.context import Place, first_told, has_happened, is_counted, is_negated
from vmfuzz.explain.reported import ENTRY_ERRORS, FAILED_ENTRY, Reported, Spoken, Unnumbered
from vmfuzz.explain.text.numbers import to_unsigned
from vmfuzz.patterns import deferred

#: An idea -> its words by language: English, German, French, Spanish, Russian, Chinese, Japanese, Korean.
_IDEAS: Final[dict[str, tuple[str, ...]]] = {
    "entry": (
        r"\bvm_?(?:launch|resume)\w*|\bvm[ _-]?(?:entry|entries|enter|entering)\b(?! exception)|\bvmentry\w*|"
        r"\b(?:enter|launch|start|run)(?:ing)? (?:the |my )?guest\b",
        r"\bVM-?(?:Eintritt|Start)\b",
        r"\bentr[ée]e (?:dans la |en |de la )?VM\b",
        r"\bentrada (?:a|en|de) la VM\b",
        r"вход\w* в (?:ВМ|гост\w+|VM)|запуск\w* (?:ВМ|гост\w+)",
        r"虚拟机进入|进入虚拟机|进入客户机|VM ?进入|启动虚拟机",
        r"VM ?エントリ\w*|VM ?への?(?:移行|突入)",
        r"VM ?(?:진입|엔트리)",
    ),
    "fails": (
        r"\bfail(?:s|ed|ure|ures|ing)?\b|\bVM_?fail\w*|\berror(?:s|ed)?\b|\bunsuccessful\b|\brefused\b|\brejected\b",
        r"\bfehlgeschlagen|\bschl[äa]gt\b[^.\n]{0,60}\bfehl\b|\bfehlschl\w+|\bscheiter\w+|\bFehler\w*|\bmisslingt\b",
        r"\b[ée]chou\w+|\b[ée]chec\w*|\berreur\w*",
        r"\bfall(?:a|ó|o|an|aba|ando|ar)\b|\bfracas\w+|\berror(?:es)?\b",
        r"не уда[её]тся|не удал\w+|ошибк\w+|не проходит|сбо[йия]\w*|завершается неудач\w+|падает",
        r"失败|出错|错误|报错",
        r"失敗|エラー|できない|できません",
        r"실패|오류|에러",
    ),
    "guest": (
        r"\binvalid[ _-]guest[ _-]?state\b|\bguest[ _-]?state (?:is |was |being )?(?:invalid|not valid)\b|\bbad guest[ _-]?state\b",
        r"\bung[üu]ltige[rnms]? (?:Gast-?[Zz]ustand\w*|Zustand des Gast\w*)|\bGast-?[Zz]ustand\w* (?:ist |war )?ung[üu]ltig",
        r"\b[ée]tat (?:de l['’ ]?)?(?:du )?(?:syst[èe]me )?invit[ée] (?:est )?(?:invalide|non valide)|\b[ée]tat invalide de l['’]invit[ée]",
        r"\bestado (?:de |del )?(?:hu[ée]sped|invitado) (?:es )?(?:inv[áa]lido|no v[áa]lido)|\bestado inv[áa]lido del? (?:hu[ée]sped|invitado)",
        r"(?:не(?:допустим|верн|корректн|правильн)\w+) состояни\w+ гост\w+|состояни\w+ гост\w+ не(?:допустимо|верно|корректно)",
        r"(?:无效|非法)的?(?:客户机|客户|来宾|访客|宾客|虚拟机|guest) ?状态|(?:客户机|来宾|访客|宾客|guest) ?状态 ?(?:无效|非法|不合法)",
        r"(?:無効|不正)なゲスト(?:の)?(?:状態|ステート)|ゲスト(?:の)?(?:状態|ステート)が(?:無効|不正)",
        r"(?:잘못된|유효하지 않은) 게스트 ?상태|게스트 ?상태가 (?:잘못|유효하지)",
    ),
    "controls": (
        r"\binvalid (?:VM-?(?:execution|entry|exit)? ?)?control(?:s|[ -]fields?(?:\(s\))?)?\b",
        r"\bung[üu]ltige[rns]? (?:Kontroll|Steuer)\w+",
        r"\bchamps? de contr[ôo]le invalides?",
        r"\bcampos? de control (?:inv[áa]lidos?|no v[áa]lidos?)",
        r"не(?:допустим|верн|корректн)\w+ (?:управляющ\w+|контрольн\w+) пол\w+|не(?:верн|допустим)\w+ пол\w+ управления",
        r"无效的?控制(?:域|字段|位)|控制(?:域|字段)无效|非法的?控制(?:域|字段)",
        r"(?:無効|不正)な(?:制御|コントロール)(?:フィールド)?",
        r"(?:잘못된|유효하지 않은) 제어 ?필드",
    ),
    "host": (
        r"\binvalid host[ -]?state(?:[ -]fields?(?:\(s\))?)?\b|\bhost[ -]?state (?:is |was )?(?:invalid|not valid)\b",
        r"\bung[üu]ltige[rnms]? Host-?[Zz]ustand\w*",
        r"\b[ée]tat (?:de l['’ ]?)?h[ôo]te (?:invalide|non valide)",
        r"\bestado (?:de |del )?(?:host|anfitri[óo]n) (?:inv[áa]lido|no v[áa]lido)",
        r"не(?:допустим|верн|корректн)\w+ состояни\w+ хост\w+",
        r"无效的?(?:宿主机|主机|host) ?状态|(?:宿主机|主机|host) ?状态 ?(?:无效|非法)",
        r"(?:無効|不正)なホスト(?:の)?状態|ホスト(?:の)?状態が(?:無効|不正)",
        r"(?:잘못된|유효하지 않은) 호스트 ?상태",
    ),
    "code": (
        r"\b(?:vm[- ]?)?(?:instruction[ _-]?)?err(?:or)?[ _-]?(?:code|number|no|num)\b|\berrno\b|\berror\b",
        r"\bFehler(?:code|nummer)\w*",
        r"\b(?:code|num[ée]ro) d['’]erreur",
        r"\b(?:c[óo]digo|n[úu]mero) de error",
        r"(?:код|номер)\w* ошибки",
        r"错误(?:代码|码|号|编号)|错误 ?(?:为|是|:|：)",
        r"エラー(?:コード|番号)",
        r"(?:오류|에러) ?(?:코드|번호)",
    ),
}  # fmt: skip
_VERBS: Final = (
    r"(?:is|was|of|gives?|returned|returns?|ist|war|lautet|est|vaut|es|fue|равен|равно|это|是|为|為|は|が|이|는|은|가|with|=|:|：|#)"
)
_NUMBER: Final = r"[<(\[\"'“]{0,2}(?P<value>(?:0[xX])?[0-9a-fA-F]{1,8})\b(?![.\w])"
_ANY: Final = {idea: deferred("|".join(words), re.IGNORECASE) for idea, words in _IDEAS.items()}
_CODE: Final = deferred(rf"(?:{'|'.join(_IDEAS['code'])})[ \t]*(?:{_VERBS}[ \t]*){{0,2}}{_NUMBER}", re.IGNORECASE)
#: What an invalid one of these is: exit reason, VM-instruction error.
_INVALID: Final = (("guest", FAILED_ENTRY | 33, None), ("controls", None, 7), ("host", None, 8))
#: One of these is in every line without letters beyond ASCII that says that something failed.
_FAILING: Final = ("fail", "err", "valid", "refus", "reject", "unsuccess", "fehl", "scheit", "missl", "echou", "echec", "falla", "fracas")
#: No sentence is longer.
_LONGEST: Final = 2000
#: So many lines below the one that says that an entry failed belong to it.
_BELOW: Final = 3
#: What makes a failure one that may happen, and has not, before it in its clause: "if", "whether"; or what a program or a chapter is about:
#: "emulate invalid guest state", "section 26.7, VM-entry failures".
_SUPPOSED: Final = deferred(
    r"\b(?:if|whether|unless|in case|should|may|might|can|could|would|will|until|every time|section|chapter|SDM|manual|wenn|falls|si|если|когда)\b"
    r"(?! (?:I|we|my|it)\b)|如果|若|もし|만약|"
    r"\b(?:emulat\w+|handl\w+|check\w*|debug\w*|cause[sd]?|reasons? for|kinds? of|about|on|for|why)[ _-](?:an? |the |of )*$",
    re.IGNORECASE,
)
#: A line of a program or of a patch, the title of a change, the error code of an event.
_OF_NO_ENTRY: Final = deferred(
    r"(?i:\b(?:event|fault|exception|interruption)\b[^.;]{0,30}\berror[ _-]?code)|"
    r"[{};]\s*$|^\s*(?://|/\*|#\s*(?:define|if|include)|\* )|\bprintk?f?\s*\(|\breturn\b|==|!=|->\w+\(|^\s*(?:diff|index|@@|\+\+\+|---) |"
    r"^\W*(?:(?:[\w/]+: ?){1,3})?(?:Handle|Fix(?:es|ed)?|Add|Improve|Check|Detect|Report|Print|Return|Make|Move|Clean ?up|Refactor|Emulate|Support|Test)\b"
)
_CLAUSE: Final = deferred(r"(?:[^.;!?。！？；]|[.;!?](?!\s|$|[^\x00-\x7f]))+")
#: So much of a sentence is quoted.
_QUOTED: Final = 120

#: A line of a program's own that says that an entry failed, not a sentence.
OF_A_PROGRAM: Final = deferred(
    r"\W{0,4}(?:[\w.]{1,30}(?:\(\w*\))?: *){0,3}(?:the )?(?:VMLAUNCH|VMRESUME|VM[- ]?entry|VM[- ]?enter)(?: instruction)?[ :]{1,3}fail(?:ed|ure)\b"
    r"(?: (?:on|in|for|at) [\w #-]{1,20})?\W*",
    re.IGNORECASE,
)


def in_languages(text: str) -> Reported | None:
    """The outcome that words say: which kind of field is invalid, or an error code beside a failed entry; error 0: only that an entry failed."""
    lines = text.split("\n")
    told = [(number, found) for number, line in enumerate(lines) if (found := _told(line)) is not None]
    sure = first_told([(number, found) for number, found in told if found.error != 0])
    # a program's own line says more than what a person tells of it
    pending = sorted((one for one in told if one[1].error == 0), key=lambda one: not OF_A_PROGRAM.fullmatch(one[1].text))
    return sure or next((_with_code(found, lines[number : number + 1 + _BELOW]) for number, found in pending), None)


@lru_cache(maxsize=1 << 13)
def _told(line: str) -> Reported | None:
    """What one line says."""
    if len(line) > _LONGEST or (line.isascii() and not any(word in line.lower() for word in _FAILING)):
        return None
    if not (_ANY["fails"].search(line) or _ANY["entry"].search(line)) or _OF_NO_ENTRY.search(line):
        return None
    return next((found for clause in _CLAUSE.finditer(line) if (found := _of_clause(line, clause)) is not None), None)


def _of_clause(line: str, clause: re.Match[str]) -> Reported | None:
    """What a clause of a line says."""
    begin, end = clause.span()
    fails, entry = _ANY["fails"].search(line, begin, end), _ANY["entry"].search(line, begin, end)
    words = " ".join(clause.group(0).split())[:_QUOTED]
    for idea, reason, error in _INVALID:
        match = _ANY[idea].search(line, begin, end)
        if match and (fails or entry) and _has_happened(line, match, begin):
            return Spoken(words, reason, error)
    if fails and entry and _has_happened(line, fails, begin) and _has_happened(line, entry, begin):
        return Unnumbered(words, error=0)
    return None


def _has_happened(line: str, match: re.Match[str], begin: int) -> bool:
    """Whether what a clause that begins there speaks of has happened: it is not denied, supposed, counted, nor what a program is about."""
    place = Place(line, match.start(), match.end())
    return has_happened(place) and not is_counted(place) and _SUPPOSED.search(line, begin, match.start()) is None


def _with_code(failed: Reported, lines: list[str]) -> Reported:
    """With the error code on the line that says that an entry failed, or on those below, if it is one that an entry can give."""
    for line in lines:
        for match in _CODE.finditer(line):
            value = to_unsigned(match["value"])
            if value in ENTRY_ERRORS and not is_negated(Place(line, *match.span())):
                return Spoken(failed.text if line == lines[0] else f"{failed.text[:80]} {match.group(0)}", error=value)
    return failed
