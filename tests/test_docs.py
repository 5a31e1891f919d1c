"""What the documents name exists: settings, files, links. And every setting is documented."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        PROJECT / "README.md",
        PROJECT / "CHANGELOG.md",
        *(PROJECT / "docs").rglob("*.md"),
        *(PROJECT / "bench").glob("*.md"),
    ]
)
TESTS = sorted((PROJECT / "tests").rglob("test_*.py"))
OPERATIONS = (PROJECT / "docs" / "operations.md").read_text()

# Made at run time, or by whoever installs.
NOT_KEPT = ("staticfiles",)
_FILE = re.compile(r"`([\w.-]+(?:/[\w.-]+)+/?|[\w.-]*\.(?:py|yml|toml|md|txt|sh|example))`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def settings_read() -> set[str]:
    return set(re.findall(r"\benv\.\w+\(\s*\"([A-Z][A-Z0-9_]*)\"", (PROJECT / "portal" / "settings.py").read_text()))


def settings_documented() -> set[str]:
    section = OPERATIONS.split("\n## Settings\n", 1)[1].split("\n## ", 1)[0]
    return set(re.findall(r"^\| `([A-Z][A-Z0-9_]*)` \|", section, re.MULTILINE))


def prose(page: Path) -> str:
    """Without the blocks of code, whose paths are examples."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\]\(.*?\)", "", heading)).strip().lower().replace(" ", "-")
        for heading in headings
    }


def test_every_setting_is_documented_and_every_documented_one_is_read():
    assert settings_read() == settings_documented()
    assert "SECRET_KEY" in settings_read(), "the control: settings are found at all"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_file_that_is_named_exists(page):
    named = {name for name in _FILE.findall(prose(page)) if not name.startswith((".run", "http"))}
    missing = {name for name in named if not (PROJECT / name).exists() and name not in NOT_KEPT}
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_leads_somewhere(page):
    broken = []
    for link in _LINK.findall(prose(page)):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_test_that_is_named_exists(page):
    named = set(re.findall(r"`(test_\w+)`", prose(page)))
    for test in TESTS if named else ():
        named -= set(re.findall(r"^def (test_\w+)", test.read_text(), re.MULTILINE))
    assert not named


def test_the_checks_above_find_something_to_check():
    assert _FILE.findall("see `portal/settings.py`, `.env.example`, `no/such.py`; `/elevated/`, `a word`") == [
        "portal/settings.py",
        ".env.example",
        "no/such.py",
    ]
    assert len(PAGES) >= 7
