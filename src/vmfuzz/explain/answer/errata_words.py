"""Processor errata that fit what a text shows: the processor, the state, the outcome."""

from __future__ import annotations

from typing import Final

from vmfuzz.explain.answer.answer import Answer
from vmfuzz.explain.answer.layout import Group, Paragraph, Role, evaluator
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.model.expr import FALSE
from vmfuzz.model.processor_errata import PROCESSOR_ERRATA, ProcessorErratum

_MOST: Final = 3
#: Where the sign of a linear address of 48 bits begins.
_SIGN: Final = 47
_UPPER: Final = 7


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
    if answer.dump.named.msr is not None:
        _, msr, value = answer.dump.named.msr
        uneven = value >> 61 & _UPPER not in (0, _UPPER) or (value >> 61 & _UPPER != 0) != bool(value >> _SIGN & 1)
        return uneven and any(first <= msr <= last for first, last in erratum.msrs)
    return erratum.when is not FALSE and evaluator(answer).judge(erratum.when).truth is True


def errata_group(answer: Answer) -> Group:
    """The paragraphs on errata that fit; none where something is certain to be wrong that no erratum is about."""
    found = fitting(answer)
    named = answer.processor is not None
    group: Group = [Paragraph(Role.CAUSE, f"{id}, of your own file. {text}", "Erratum") for id, text in answer.own_errata]
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
