"""A case in words: operand by operand beside its base and the nearest value that is right, and what the manual requires of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from vmfuzz.comparison.case import Mutation, base_value, batch_of, format_key, key_in_words, width_of
from vmfuzz.model.checks import BY_ID
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.predict import Model
from vmfuzz.model.wording import sentence_with_values
from vmfuzz.state.vmcs import Vmcs


def near_values(base: Vmcs, key: str, now: int) -> list[int]:
    """Values of an operand beside `now`, the nearest first: one bit flipped, one more, one less, and what the base has."""
    width = width_of(key)
    values = {now ^ 1 << index for index in range(width)} | {now - 1, now + 1, base_value(base, key)}
    return sorted((value for value in values if 0 <= value < 1 << width and value != now), key=lambda value: (abs(value - now), value))


def side_by_side(
    base: Vmcs, mutation: Mutation, near: Mapping[str, tuple[int, str]], titles: Sequence[str], marked: Callable[[str], str] = str
) -> list[str]:
    """Lines that show each operand in the base, in this case (`marked`) and nearest to it where it is right, with what it does there (`near`).

    `titles`: of these four columns; 80 columns of a terminal suffice.
    """
    rows = []
    for key, value in mutation.items():
        edge, does = near.get(key, (None, ""))
        beside = "none near" if edge is None else format_key(key, edge)
        rows.append((key, format_key(key, base_value(base, key)), format_key(key, value), beside, does))
    widths = [max(len(title), *(len(row[column]) for row in rows)) for column, title in enumerate(titles, 1)] if rows else []
    lines = ["  ".join([*(f"{title:>{width}}" for title, width in zip(titles[:3], widths, strict=False)), titles[3]])] if rows else []
    for key, *shown, does in rows:
        before, here, beside = (f"{value:>{width}}" for value, width in zip(shown, widths, strict=False))
        lines += [key_in_words(key), f"{before}  {marked(here)}  {beside}  {does}".rstrip()]
    return lines


def required(
    model: Model, base: Vmcs, mutation: Mutation, ids: Iterable[str], marked: Callable[[str], str] = str, quoted: Callable[[str], str] = str
) -> list[str]:
    """Lines that say what the manual requires in the checks of these ids, with the case's values (`quoted`); ids are `marked`."""
    values = OperandValues(batch_of(base, [mutation]))
    lines: list[str] = []
    for id in dict.fromkeys(ids):
        if id in BY_ID:
            check = BY_ID[id]
            lines += ["", f"{marked(id)} ({check.section})", f"  {quoted(sentence_with_values(check, model.fold, values))}"]
    return lines
