"""docs/checks.md keeps step with the model."""

import re
from pathlib import Path

from vmfuzz.model.ambiguities import AMBIGUITIES
from vmfuzz.model.checks import BY_ID, CHECKS, NOT_APPLICABLE
from vmfuzz.model.known_deviations import DEVIATIONS

PAGE = (Path(__file__).parents[2] / "docs" / "checks.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.split(f"## {title}")[1].split("\n## ")[0]


def test_the_page_counts_the_checks() -> None:
    assert f"The model declares {len(CHECKS)} checks" in PAGE


def test_the_rows_that_are_no_checks_are_those_of_the_model() -> None:
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", section("Rows of the reference catalogue"), re.MULTILINE))
    assert rows == dict(NOT_APPLICABLE)


def test_the_checks_never_seen_are_checks_and_have_a_reason() -> None:
    for title, beginning in (("Checks that exist on none", "\n- "), ("Checks that exist on some", "\n|---")):
        ids = re.findall(r"`([a-z0-9_.-]+)`", section(title).partition(beginning)[2])
        assert ids
        assert all(id in BY_ID for id in ids), [id for id in ids if id not in BY_ID]
    assert "not known" not in PAGE
    assert "not seen yet" not in PAGE


def test_named_deviations_and_ambiguities_exist() -> None:
    deviations = {deviation.id for deviation in DEVIATIONS}
    assert set(re.findall(r"deviation (bochs-[a-z0-9-]+)", PAGE)) <= deviations
    assert set(re.findall(r"ambiguity ([a-z][a-z0-9-]+):", PAGE)) <= set(AMBIGUITIES)


def test_a_second_look_was_had_at_checks_that_exist() -> None:
    rows = re.findall(r"^\| (`.+?`) \| (.+) \|$", section("Checks that none of the implementations that were read makes"), re.MULTILINE)
    assert len(rows) > 10
    for ids, found in rows:
        assert found.startswith(("Kept. ", "Stays an ambiguity ("))
        for beginning in re.findall(r"`([^`]+)`", ids):
            named = [check for id, check in BY_ID.items() if id == beginning or id.startswith(f"{beginning}.")]
            assert named
            assert found.startswith("Kept") or all(check.ambiguity and f"({check.ambiguity})" in found for check in named)
