"""Files that are made of others are what their generators write: `python tools/generated.py --check`."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("generated")


def test_no_generated_file_is_stale(tool: ModuleType) -> None:
    files = list(tool.generated())
    names = {file.path.relative_to(ROOT).as_posix() for file in files}
    assert {"docs/api.md", "docs/agreement.md", "docs/processors.md", "docs/bare-metal.md", "docs/man/vmfuzz-run.1"} <= names
    assert [f"{file.path.relative_to(ROOT)}: python {file.command}" for file in files if file.stale] == []


def test_a_stale_file_is_named(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept.md").write_text("as it was\n", encoding="utf-8")
    files = [
        tool.Generated(tmp_path / "kept.md", "as it was\n", "tools/one.py"),
        tool.Generated(tmp_path / "kept.md", "as  it\nwas", "tools/one.py", words=True),
        tool.Generated(tmp_path / "kept.md", "as it is\n", "tools/other.py"),
        tool.Generated(tmp_path / "new.md", "new\n", "tools/third.py"),
    ]
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "generated", lambda: files)
    monkeypatch.setattr("sys.argv", ["generated.py", "--check"])
    with pytest.raises(SystemExit, match="1"):
        tool.main()
    assert capsys.readouterr().out.splitlines() == ["kept.md is stale: python tools/other.py", "new.md is stale: python tools/third.py"]
    assert not (tmp_path / "new.md").exists()
    monkeypatch.setattr("sys.argv", ["generated.py"])
    tool.main()
    assert (tmp_path / "new.md").read_text(encoding="utf-8") == "new\n"


@pytest.mark.parametrize(
    ("outcome", "text", "holder"),
    [
        ("VMfailValid(8)", "!nested_host_cr0_valid(vcpu, vmcs12->host_cr0)", "KVM, by a text"),
        ("VMfailValid(7)", "hardware VM-instruction error: VMENTRY_INVALID_CONTROL_FIELD", "the processor below"),
        ("VMfailValid(7)", None, "KVM, without a text"),
        ("entry failure 34 q1", None, "KVM, without a text"),
        ("entry failure 33 q0", None, "the processor below"),
    ],
)
def test_who_holds_a_check_follows_from_kvms_word_and_the_end(tool: ModuleType, outcome: str, text: str | None, holder: str) -> None:
    held = {"alone": 3, "failed": 2, "otherwise": {}, "words": [[outcome, text]]}
    assert tool.kvm_page.holders(held) == [holder]
    assert tool.kvm_page.holders({**held, "words": []}) == ["nobody"]
    assert tool.kvm_page.holders({**held, "alone": 0, "words": []}) == ["not seen alone"]
