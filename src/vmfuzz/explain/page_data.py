"""What the page in the browser shows (page/): the answers to a text, and the text with what each value on it was read as.

The page calls `processors` once, then `answered` for each text. Both give data that JSON can hold; docs/check.md says how the page is built. Needs
the standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final

from vmfuzz import __version__
from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.registers import FIELD_SPANS
from vmfuzz.errors import UsageError
from vmfuzz.explain.answer.advice import headline
from vmfuzz.explain.answer.annotate import AnnotatedLine, Kind, Mark, Skipped, annotation, visible
from vmfuzz.explain.answer.answer import Answer, answer
from vmfuzz.explain.answer.layout import Paragraph, Section
from vmfuzz.explain.answer.markdown import markdown
from vmfuzz.explain.answer.sections import sections
from vmfuzz.explain.answer.states import answers
from vmfuzz.explain.dump import ALL, Dump
from vmfuzz.explain.given import dump_of_words, dumps_of
from vmfuzz.explain.names.spoken import shown, spoken
from vmfuzz.hexadecimal import encoded, hexadecimal
from vmfuzz.model.wording import bit_name
from vmfuzz.state.profiles import capabilities, description, emulated_names, processor_names

#: What answers call the text.
_NAME: Final = "your text"
#: The page shows so many states of one text.
_MOST: Final = 20
#: Fields whose bits are those of another one.
_SAME_BITS: Final = {
    f"{register}_{what}": f"guest_{register}" for register in ("cr0", "cr4") for what in ("guest_host_mask", "read_shadow")
}


def processors() -> dict[str, Any]:
    """The processors that a person can choose, in groups: (name, description) each; and vmfuzz's version."""
    return {
        "version": __version__,
        "processors": [(name, description(name)) for name in processor_names()],
        "emulated": [(name, name) for name in emulated_names()],
    }


def answered(data: bytes, cpu: str = "") -> dict[str, Any]:
    """The answers to a text on the processor `cpu` (a stored profile; "": what the text itself proves).

    {"error": a sentence} where it is no text, or an unknown processor; else "answers" and "lines" (see `_answer` and `_line`), of how many states they
    are ("states"; of two of which one works there is one answer), and how many more states the text has ("more").
    """
    try:
        processor = capabilities(cpu) if cpu else None
        dumps = _dumps(data)
    except UsageError as error:
        return {"error": str(error)}
    dumps, more = dumps[:_MOST], len(dumps[_MOST:])
    found = answers(dumps, processor)
    of_dump = [next((one for one in found if one.dump is dump), None) or answer(dump, processor) for dump in dumps]
    return {
        "answers": [_answer(one) for one in found],
        "states": len(dumps),
        "more": more,
        "lines": [_skipped(one) if isinstance(one, Skipped) else _line(one, of_dump) for one in annotation(dumps)],
    }


def _dumps(data: bytes) -> list[Dump]:
    dumps, words = dumps_of(BytesIO(data), _NAME), data.strip()
    if words and b"\n" not in words and all(dump.empty for dump in dumps):
        return [dump_of_words(words.decode("utf-8", "replace"), _NAME)]
    return dumps


def _answer(found: Answer) -> dict[str, Any]:
    """One answer: its name and exit code, its sections, and all of it as Markdown."""
    return {
        "name": found.dump.source.removeprefix(f"{_NAME}, "),
        "exit_code": found.exit_code,
        "entered": found.entered,
        "sections": [_section(one) for one in sections(found, explain=True)],
        "markdown": markdown(found),
    }


def _section(section: Section) -> dict[str, Any]:
    groups = [[_paragraph(one) for one in group if one.text] for group in section.groups]
    return {"name": section.name, "groups": [group for group in groups if group]}


def _paragraph(paragraph: Paragraph) -> dict[str, Any]:
    return {"role": paragraph.role.value, "label": paragraph.label, "text": paragraph.text, "line": paragraph.line}


def _skipped(skipped: Skipped) -> dict[str, int]:
    """A stretch of lines of which nothing was read: its first line and how many they are."""
    return {"first": skipped.first, "skipped": skipped.count}


def _line(line: AnnotatedLine, of_dump: Sequence[Answer]) -> dict[str, Any]:
    return {
        "number": line.number,
        "text": visible(line.text),
        "marks": [_mark(mark, of_dump[mark.dump - 1]) for mark in line.marks],
        "warnings": line.warnings,
        "unread": line.unread,
    }


def _mark(mark: Mark, found: Answer) -> dict[str, Any]:
    """A value on a line: its columns, what it was read as, its bits by name, and what is wrong with it."""
    is_field = mark.kind is Kind.FIELD
    reading = found.dump.readings.get(mark.name) if is_field else None
    field = FIELDS.get(mark.name)
    known = ALL if reading is None else reading.known
    wrong = _wrong(mark, found)
    return {
        "first": mark.first,
        "last": mark.last,
        "kind": mark.kind.value,
        "name": mark.name,
        "title": spoken(mark.name) if field is not None else mark.name,
        "encoding": encoded(field.encoding) if field is not None else "",
        "value": _value(mark, found),
        "dump": mark.dump,
        "assumed": reading.assumed if reading is not None else "",
        "part": shown(mark.name, known) if is_field and known != ALL else "",
        "bits": _bits(mark.name, mark.value, known) if is_field else [],
        "bad": bool(wrong),
        "wrong": wrong,
    }


def _value(mark: Mark, found: Answer) -> str:
    if mark.kind is Kind.OUTCOME and found.dump.reported is not None:
        return headline(found.dump.reported)
    return shown(mark.name, mark.value) if mark.kind is Kind.FIELD else hexadecimal(mark.value)


def _wrong(mark: Mark, found: Answer) -> list[str]:
    """What is wrong with a value, a sentence each."""
    own = mark.kind is Kind.ENCODING
    sentences = [
        mistake.what
        for mistake in found.causes
        if mistake.line == mark.line and mistake.field in ("", mark.name) and (own or not mistake.of_encoding)
    ]
    if mark.kind is not Kind.FIELD or found.encodings_are_the_cause:
        return sentences
    for finding in found.violated:
        if mark.name in finding.check.must.reads:
            sentences.append(f"{'; '.join(found.faults(finding))}. ({finding.check.id})")
    return sentences


def _bits(name: str, value: int, known: int) -> list[dict[str, Any]]:
    """The named bits and spans of bits of a value, and those that are 1 without a name, from bit 0 on; those that are not known are left out."""
    name = _SAME_BITS.get(name, name)
    spans = FIELD_SPANS.get(name, ())
    within = {bit for high, low, _ in spans for bit in range(low, high + 1)}
    found = [(low, f"{high}:{low}", word, value >> low & (1 << high - low + 1) - 1) for high, low, word in spans]
    named = [(bit, bit_name(name, bit)) for bit in range(64) if bit not in within and known >> bit & 1]
    if any(label for _, label in named):
        found += [(bit, str(bit), (label or "").strip('"'), value >> bit & 1) for bit, label in named if label or value >> bit & 1]
    return [{"bits": bits, "name": word, "value": digits} for _, bits, word, digits in sorted(found)]
