"""Errata that fit what a text shows: public ones of processors, by the processor, the state and the outcome; and deviations of a person's own file
(docs/errata.md), where the text has the bits that a case changes as the case has them, and its outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from vmfuzz.arch.outcomes import Kind, Outcome
from vmfuzz.explain.answer.answer import Answer
from vmfuzz.explain.answer.layout import Group, Paragraph, Role
from vmfuzz.explain.reported import Reported
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.model.expr import FALSE
from vmfuzz.model.partial import Partial
from vmfuzz.model.processor_errata import PROCESSOR_ERRATA, ProcessorErratum

_MOST: Final = 3
#: Where the sign of a linear address of 48 bits begins.
_SIGN: Final = 47
_UPPER: Final = 7
#: A case of an erratum: (operand, mask, value), of which the bits in the mask must be so, and the outcome as entries of a corpus name it.
OwnCase = tuple[Sequence[tuple[str, int, int]], str]


def fitting(answer: Answer) -> list[ProcessorErratum]:
    """The errata that can be the cause: of the processor that the text names, or where it names none, of any; that show as what is reported."""
    reported = answer.dump.reported
    number = None if reported is None or reported.entered else reported.exit_reason or reported.error
    if number is None:
        return []
    return [
        erratum
        for erratum in PROCESSOR_ERRATA
        if number in erratum.outcomes and (answer.processor is None or erratum.affects(answer.processor)) and _shows(erratum, answer)
    ]


def _shows(erratum: ProcessorErratum, answer: Answer) -> bool:
    """Whether the text shows the state in which an erratum shows."""
    if answer.dump.refused_msr is not None:
        _, msr, value = answer.dump.refused_msr
        uneven = value >> 61 & _UPPER not in (0, _UPPER) or (value >> 61 & _UPPER != 0) != bool(value >> _SIGN & 1)
        return uneven and any(first <= msr <= last for first, last in erratum.msrs)
    return erratum.when is not FALSE and answer.evaluator.judge(erratum.when).truth is True


def errata_group(answer: Answer) -> Group:
    """The paragraphs on errata that fit; none where something is certain to be wrong that no erratum is about."""
    found = fitting(answer)
    named = answer.processor is not None
    group: Group = [Paragraph(Role.CAUSE, f"{id}, from your own file. {text}", "Erratum") for id, text in answer.own_errata]
    if any(finding.explains for finding in answer.violated) and not named:
        return group
    for erratum in found[:_MOST]:
        ids = "/".join((erratum.id, *erratum.also[:2]))
        models = ", ".join(hexadecimal(model) for model in erratum.models)
        whose = (
            f"The text names a processor of {answer.processor}: one of the {erratum.processors}"
            if named
            else f"It fits if the processor is one of the {erratum.processors} (family 6, model {models})"
        )
        head = f"{ids}: {erratum.title}. {whose}."
        group += [
            Paragraph(Role.CAUSE, head, "Erratum"),
            Paragraph(Role.FOLLOWS, erratum.text),
            Paragraph(Role.CHANGE, f"{erratum.remedy}.", "Change"),
        ]
    return group


def fits(cases: Sequence[OwnCase], values: Mapping[str, Partial], reported: Reported | None) -> bool:
    """Whether the text shows all bits of one of the cases as they must be, and reports its outcome; `values`: what the text says of fields."""
    return reported is not None and any(
        outcome in _short(reported) and all(_has(values.get(name), mask, value) for name, mask, value in bits) for bits, outcome in cases
    )


def _has(have: Partial | None, mask: int, value: int) -> bool:
    """Whether all bits in the mask are known, and as `value` has them."""
    return have is not None and not mask & ~have.known and not (have.value ^ value) & mask


def _short(reported: Reported) -> tuple[str, ...]:
    """The outcome as entries of a corpus name it; of a failed entry without its qualification, all that it may be."""
    if reported.entered:
        return ("entered", Outcome(Kind.EXIT, (reported.exit_reason or 0) & 0xFFFF).short())
    if reported.exit_reason is not None:
        qualifications = range(5) if reported.qualification is None else (reported.qualification,)
        return tuple(Outcome(Kind.ENTRY_FAILURE, reported.exit_reason & 0xFFFF, number).short() for number in qualifications)
    if reported.error is None:
        return (Outcome(Kind.VMFAIL_INVALID).short(),)
    return (Outcome(Kind.VMFAIL_VALID, reported.error).short(),)
