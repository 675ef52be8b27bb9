"""What a line consists of: words, numbers as the languages of programs write them, and the signs between; rows are lines of one name."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from vmfuzz.explain.dump import ALL
from vmfuzz.explain.names.labels import names_one
from vmfuzz.explain.text.numbers import NUMBER, read_number
from vmfuzz.patterns import deferred

#: No longer line is looked at.
_LONGEST: Final = 400
#: Numbers of C, Rust (0x0800_u32), Pascal ($0800) and Ada (16#0800#).
_LITERAL: Final = r"(?:0[xX]|\$|16#)([0-9a-fA-F]+(?:_[0-9a-fA-F]+)*)(?:#|_?[uUiI](?:8|16|32|64|size))?(?!\w)"
_OF_LANGUAGE: Final = deferred(_LITERAL)
#: A letter alone is a number at the end of a line; "t" stands for what makes columns.
_TOKEN: Final = deferred(
    rf"(?P<n>(?<![\w.$#])(?:{_LITERAL}|(?![a-fA-F]\b(?!\W*$))(?:{NUMBER}|\d+[uUlL]{{1,3}})(?!\w)))|(?P<w>[A-Za-z_][\w.]*)|(?P<t>\t|\s{{2,}}|\.{{2,}})|\S"
)
#: A comment within a line, or to its end.
_ASIDE: Final = deferred(r"/\*[^*]*(?:\*/|$)|//.*|\s(?:(?:#|--)\s|;).*")
#: What stands around names and numbers, and between columns.
_AROUND: Final = r"[|t,;.()\[\]<>\"'`*]*+"
#: Forms of `GUEST_CR0 (0x6800) = 0x80000031`, `4802 GUEST_CS_LIMIT: ffff`, `(0x4802) @before@guest_CS_limit = 0xffff`, `0x4802 = 0xffff`,
#: `| GUEST_CR0 | 0x6800 | 0x80000031 | Match |`, `[GUEST_CR0] 0x80000031`; a capability MSR may come in halves, `0x16 / 0x7f`.
_ROW: Final = deferred(
    rf"{_AROUND}(?:(?P<before>n){_AROUND}[:=-]*+{_AROUND})?[@:]*+(?:(?P<names>w(?:[-/@:|t,]*w)*){_AROUND})?(?:(?P<behind>n){_AROUND})?"
    rf"(?:=>|->|[:=]+)?{_AROUND}(?P<value>n)(?:/(?P<high>n))?[)\]>\"'`*]*+(?:[(#;<!.].*|[|t]++(?!n).*|,[^n]*)?"
)
_CELLS: Final = deferred(r"\s*[|,@:]\s*|\s{2,}")


class Tokens(NamedTuple):
    """The tokens of a line without its comments, and its form: a character for each, "w" a word, "n" a number, "t" blanks, and signs as they are."""

    form: str
    texts: tuple[str, ...]
    #: the words before the first number, behind it, behind the second ...
    words: tuple[list[str], ...]
    #: what each number may be: one without any mark is hexadecimal or decimal
    numbers: tuple[list[int], ...]


class Row(NamedTuple):
    """A line of one name at most: a value, a number before it, which may be an encoding, and an upper half behind it."""

    name: str
    number: str
    value: str
    high: str
    #: the number does not stand before the name
    name_first: bool
    #: what says that the value is one: "=", or "|" where it has a column of its own, or " " if only its mark does; "" if nothing does
    sign: str


@lru_cache(maxsize=1 << 13)
def tokens_of(text: str) -> Tokens:
    """The tokens of a line; none if it is longer than any that is read by them."""
    form, texts, words, numbers = "", list[str](), [list[str]()], list[list[int]]()
    for token in _TOKEN.finditer(_ASIDE.sub(" ", text)) if len(text) <= _LONGEST else ():
        kind, written = token.lastgroup or token[0], token[0]
        form += kind
        texts.append(written)
        if kind == "n":
            numbers.append(_values(written))
            words.append([])
        elif kind == "w":
            words[-1].append(written)
    return Tokens(form, tuple(texts), tuple(words), tuple(numbers))


@lru_cache(maxsize=1 << 13)
def _values(written: str) -> list[int]:
    plain = _OF_LANGUAGE.sub(r"0x\1", written)
    return [value for hexadecimal in (True, False) if (value := read_number(plain, hexadecimal)) is not None] or [ALL]


@lru_cache(maxsize=1 << 13)
def row_of(text: str) -> Row | None:
    """The row that a line is; None if it is none."""
    tokens = tokens_of(text)
    row = _ROW.fullmatch(tokens.form)
    if row is None:
        return None
    names, before, behind, value, high = (
        " ".join(tokens.texts[row.start(part) : row.end(part)]) for part in ("names", "before", "behind", "value", "high")
    )
    if before and behind:
        return None
    cells, head = _CELLS.split(names), tokens.form[: row.start("value")]
    signs = head.rstrip("\"'`*[(<")
    # what stands in brackets behind a name is its encoding
    marked = len(cells) == 1 and not head.endswith(("(", "[", "<")) and (value[:2] in ("0x", "0X") or value[-1] in "hH")
    sign = "=" if "=" in signs or ":" in signs else "|" if signs.endswith(("|", "t", ",")) else " " * marked
    return Row(next(filter(names_one, cells), cells[-1]), before or behind, value, high, not before, sign)
