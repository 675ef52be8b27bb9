"""The documents: links lead somewhere, figures are those of the code, generated pages are current, and the tutorial's commands work."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import shlex
import textwrap
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from vmfuzz.cli.main import COMMANDS, main
from vmfuzz.corpus.entries import entry_files
from vmfuzz.execute.bochs.executor import CPU_MODELS
from vmfuzz.model.ambiguities import AMBIGUITIES
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.known_deviations import DEVIATIONS
from vmfuzz.model.questions import QUESTIONS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md"), *(ROOT / "tools").glob("*.md")])
SUMMARIES = sorted((ROOT / "docs" / "report" / "summaries").glob("*.json"))
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchor(heading: str) -> str:
    """The anchor that a renderer gives a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return "".join(c for c in plain.strip().lower().replace(" ", "-") if c.isalnum() or c in "-_")


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


@each_page
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text_of(page))):
        if re.match(r"[a-z]+:", target):
            assert target.startswith("https://"), target
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if heading:
            headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text_of(file), flags=re.DOTALL), re.MULTILINE)
            assert heading in map(anchor, headings), f"{page.name}: {target}"


@each_page
def test_fences_are_closed_and_nothing_names_the_machine_it_was_written_on(page: Path) -> None:
    text = text_of(page)
    assert len(re.findall(r"^\s*```", text, re.MULTILINE)) % 2 == 0
    assert not re.search(r"/work/|/root/|/tmp/", text)


FIGURES = {
    r"(\d+) checks": {len(CHECKS)},
    r"(\d+) (?:emulated )?(?:Intel )?CPU models": {len(CPU_MODELS)},
    r"corpus.{0,80}?: (\d+) entries": {len(entry_files(ROOT / "corpus"))},
    r"in (\d+) places the text allows": {len(AMBIGUITIES)},
    r"(\d+) known deviations": {len(DEVIATIONS)},
    r"(\d+) questions were asked": {len(QUESTIONS)},
    r"a page of ([\d.,]+) million candidates": {round(sum(json.loads(text_of(path))["candidates"] for path in SUMMARIES) / 1e6)},
}
#: Figures of a part: "the 11 CPU models whose capabilities are the same".
PARTS = {("diff-bochs-2.8-3.0.md", 11)}


@each_page
def test_figures_that_the_code_knows_are_current(page: Path) -> None:
    for pattern, expected in FIGURES.items():
        for found in re.findall(pattern, text_of(page), re.DOTALL):
            assert int(found.replace(",", "")) in expected or (page.name, int(found)) in PARTS, (
                f"{page.name}: {found} for {pattern}, expected {expected}"
            )


def test_figures_are_found_at_all() -> None:
    readme, corpus, everything = (text_of(ROOT / name) for name in ("README.md", "docs/corpus.md", "docs/ambiguities.md"))
    assert f"{len(CHECKS)} checks" in readme
    assert f"{len(entry_files(ROOT / 'corpus'))} entries" in corpus
    assert f"in {len(AMBIGUITIES)} places" in everything


def test_every_command_that_a_document_shows_exists() -> None:
    for page in PAGES:
        fenced = "\n".join(re.findall(r"```(?:sh)?\n(.*?)```", text_of(page), re.DOTALL))
        shown = re.findall(r"^vmfuzz ([a-z][a-z-]+)", fenced, re.MULTILINE) + re.findall(r"`vmfuzz ([a-z][a-z-]+)", text_of(page))
        for command in shown:
            assert command in COMMANDS, f"{page.name}: vmfuzz {command}"


def test_every_check_and_deviation_that_a_document_names_exists() -> None:
    deviations = {deviation.id for deviation in DEVIATIONS}
    for page in PAGES:
        assert {f"bochs-{name.rstrip('.')}" for name in re.findall(r"deviation:bochs-([a-z0-9.-]+)", text_of(page))} <= deviations, (
            page.name
        )


def test_the_api_page_is_current() -> None:
    assert tool("api_page").page() == text_of(ROOT / "docs" / "api.md"), "run `python tools/api_page.py > docs/api.md`"


def test_the_campaigns_through_the_module_are_in_their_document() -> None:
    script = tool("module_page")
    campaigns = script.campaigns(script.CAMPAIGNS.read_text(encoding="utf-8"))
    shown = script.BLOCK.search(text_of(script.PAGE))
    assert shown is not None
    assert shown[2] == script.tables(campaigns), "run `python tools/module_page.py`"
    executed = sum(campaign["executed"] for campaign in campaigns if not campaign.get("poison"))
    assert f"{executed:,} candidates executed" in shown[2]


def tool(name: str) -> ModuleType:
    """A script of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FIGURES_SCRIPT = tool("figures")
SHOWN = {(command, word): (page, block) for page in PAGES for _, command, word, block in FIGURES_SCRIPT.BLOCK.findall(text_of(page))}


@pytest.mark.parametrize("shown", SHOWN, ids=" ".join)
def test_what_a_document_shows_is_what_the_command_prints(shown: tuple[str, str]) -> None:
    made_with = FIGURES_SCRIPT.MADE_WITH.findall(text_of(ROOT / "README.md"))
    if made_with != [metadata.version("hypothesis")]:
        pytest.skip(f"figures were made with Hypothesis {made_with}, which draws other candidates than this version")
    page, block = SHOWN[shown]
    now = FIGURES_SCRIPT.printed(shown[0], shown[1] or None)
    assert FIGURES_SCRIPT.comparable(block) == FIGURES_SCRIPT.comparable(now), f"{page.name}: run `python tools/figures.py`"


def test_documents_show_what_commands_print() -> None:
    everything = "".join(map(text_of, PAGES))
    assert everything.count("<!-- figures: ") == len(FIGURES_SCRIPT.BLOCK.findall(everything)) >= 3


TUTORIAL = re.findall(
    r"^vmfuzz .+$", "\n".join(re.findall(r"```sh\n(.*?)```", text_of(ROOT / "docs" / "tutorial.md"), re.DOTALL)), re.MULTILINE
)


@pytest.mark.parametrize("line", TUTORIAL)
def test_the_tutorials_commands_work(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corpus").symlink_to(ROOT / "corpus")
    monkeypatch.chdir(tmp_path)
    command, _, comment = line.partition("#")
    done = CliRunner().invoke(main, shlex.split(command)[1:], catch_exceptions=False)
    assert done.exit_code == (1 if "exit code 1" in comment else 0), done.output
    if "diff model" in line:
        assert "checks violated: guest.pdbg.reserved" in done.stdout
        assert "guest_pending_debug_exceptions: 0000000000000000H -> 0000000100000000H" in done.stdout


def test_the_tutorial_has_commands() -> None:
    assert len(TUTORIAL) >= 9


CHECKS_SHOWN = re.findall(r"^ *```python\n(.*?)^ *```", text_of(ROOT / "docs" / "model.md"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("place", range(len(CHECKS_SHOWN)))
def test_a_check_is_declared_as_the_page_shows(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    code = CHECKS_SHOWN[place]
    section = re.match(r"\w+", code.strip())
    assert section is not None
    module = importlib.import_module(f"vmfuzz.model.checks.{section[0]}")
    declared = getattr(module, section[0])
    monkeypatch.setattr(declared, "checks", [each for each in declared.checks if each.id not in code])
    before = len(declared.checks)
    exec(textwrap.dedent(code), dict(vars(module)))
    assert len(declared.checks) == before + 1
    new = declared.checks[-1]
    assert f'"{new.id}"' in code
    assert new.fields


def test_licenses_are_there_and_named() -> None:
    assert "Apache License" in text_of(ROOT / "LICENSE")
    assert "GPL-2.0-only" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert (ROOT / "kmod" / "LICENSE").stat().st_size > 500


def test_images_of_the_readme_are_shown_on_an_index_page_too() -> None:
    # an index shows the README without the files beside it
    for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)|<img[^>]+src=\"([^\"]+)\"", text_of(ROOT / "README.md")):
        assert "".join(target).startswith("https://"), target
