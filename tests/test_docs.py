"""Documentation that fails its tests: help without an example, a command that does not exist, a link that leads
nowhere, a sample that no schema takes."""

import ast
import importlib.util
import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from orchestrator.cli.lazy import COMMANDS, Entry, load
from orchestrator.config import load_config
from orchestrator.errors import JmlError, Permanent
from orchestrator.schema_export import MESSAGES, type_of
from schemas.envelope import STRUCTURED, read_envelope
from schemas.topics import topics

ROOT = Path(__file__).parents[1]
DECISIONS = sorted((ROOT / "orchestrator/decisions").glob("*.md"))
GUIDE = sorted((ROOT / "orchestrator/guide").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *GUIDE, *DECISIONS]
PACKAGES = ("schemas", "orchestrator", "workers")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


# --- help -------------------------------------------------------------------------------------------------------------


def commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """A command and all below it."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(f"{path} {name}", inner)


def load_or_skip(entry: Entry) -> Any:
    """Commands whose module is still to come are left out, and said so."""
    if importlib.util.find_spec(f"orchestrator.cli.{entry.module}") is None:
        pytest.skip(f"orchestrator.cli.{entry.module} is still to come")
    return load(entry)


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_every_command_has_help_with_an_example(entry: Entry) -> None:
    for path, command in commands(entry.name, load_or_skip(entry)):
        assert command.help, f"jml {path} has no help"
        assert "Example" in command.help, f"the help of jml {path} has no example"
        assert "`jml " in command.help or "jml " in command.help.partition("Example")[2]


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_every_option_and_argument_has_help(entry: Entry) -> None:
    for path, command in commands(entry.name, load_or_skip(entry)):
        for parameter in command.params:
            assert parameter.help, f"jml {path}: {parameter.name} has no help"


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_the_overview_leads_to_the_command_of_that_name(entry: Entry) -> None:
    command = load_or_skip(entry)
    assert command.name in (entry.name, ""), "a group has no name of its own"
    assert entry.about.endswith(".")


def test_every_topic_says_what_it_is_about() -> None:
    assert all(topic.about for topic in topics(("crm",)))


# --- commands in the pages --------------------------------------------------------------------------------------------


class Shown(NamedTuple):
    """A command as a page shows it."""

    page: str
    line: str


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def without_blocks(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def shown(page: Path) -> Iterator[Shown]:
    """Every `jml ...` behind a prompt, between backticks, or given to a container."""
    for block in blocks(page, "console"):
        for line in block.splitlines():
            if line.startswith("$ "):
                yield Shown(name_of(page), line.removeprefix("$ "))
    for code in re.findall(r"`([^`\n]+)`", without_blocks(page)):
        yield Shown(name_of(page), code)


def arguments(line: str) -> list[str] | None:
    """What follows `jml`; None for a line that calls something else."""
    words = shlex.split(line.split(" | ")[0].split(" < ")[0], comments=True)
    while words and re.fullmatch(r"JML_\w+=\S*", words[0]):
        words.pop(0)
    if words[:3] == ["docker", "compose", "exec"] and words[4:5] == ["jml"]:
        return words[5:]
    if words[:3] == ["docker", "compose", "run"]:
        return words[words.index("-T") + 2 :]  # the image's entry point is jml
    return words[1:] if words[:1] == ["jml"] else None


SHOWN = [one for page in PAGES for one in shown(page) if arguments(one.line)]


@pytest.mark.parametrize("one", SHOWN, ids=lambda one: f"{one.page}: {one.line}")
def test_a_command_that_a_page_shows_exists_with_those_options(one: Shown) -> None:
    words = arguments(one.line) or []
    entry = next((entry for entry in COMMANDS if entry.name == words[0]), None)
    assert entry is not None, f"there is no jml {words[0]}"
    command, path, rest = load_or_skip(entry), words[0], words[1:]
    while inner := getattr(command, "commands", None):
        if not rest:
            return  # the name of a group
        assert rest[0] in inner, f"there is no jml {path} {rest[0]}"
        command, path, rest = inner[rest[0]], f"{path} {rest[0]}", rest[1:]
    numbers = {"PARTITION": "0", "OFFSET": "0"}
    try:
        if rest:  # a command that is only named needs no arguments
            command.make_context(path, [numbers.get(word, word) for word in rest])
    except typer.TyperException as error:
        pytest.fail(f"jml {path}: {error.format_message()}")


def test_the_pages_show_every_command() -> None:
    named = {(arguments(one.line) or [""])[0] for one in SHOWN if not one.page.startswith("orchestrator/decisions")}
    assert named == {entry.name for entry in COMMANDS}


# --- links ------------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """What a heading is called in a link, as GitHub does it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page)):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} leads nowhere"
        if anchor:
            assert anchor in anchors(file), f"{target}: there is no such heading"


def test_every_metric_is_explained_and_no_other() -> None:
    counted = set(re.findall(r'"(jml_[a-z_]+)"', (ROOT / "orchestrator/metrics.py").read_text()))
    explained = set(re.findall(r"`(jml_[a-z_]+)`", (ROOT / "orchestrator/guide/operating.md").read_text()))
    assert explained == counted


def test_every_code_of_quarantine_and_of_parked_accounts_is_explained() -> None:
    operating = (ROOT / "orchestrator/guide/operating.md").read_text()
    poison = r'(?:Poison|EnvelopeError)\(\s*"([a-z_]+)"'
    codes = {code for path in sources() for code in re.findall(poison, path.read_text())}
    codes |= {error.code for error in everything_below(Permanent)} - {Permanent.code}
    assert [code for code in sorted(codes) if f"`{code}`" not in operating] == []


def everything_below(error: type[JmlError]) -> Iterator[type[JmlError]]:
    """An error and its kinds."""
    yield error
    for kind in error.__subclasses__():
        yield from everything_below(kind)


def test_every_page_is_reached_from_the_readme_or_the_guide() -> None:
    text = "".join(page.read_text() for page in [ROOT / "README.md", *GUIDE])
    assert [page.name for page in GUIDE if f"{page.name})" not in text] == []


# --- configuration and samples ----------------------------------------------------------------------------------------

TOML = [(page, number, text) for page in PAGES for number, text in enumerate(blocks(page, "toml"))]


@pytest.mark.parametrize(("page", "number", "text"), TOML, ids=[f"{name_of(page)}-{n}" for page, n, _ in TOML])
def test_a_configuration_that_a_page_shows_loads(page: Path, number: int, text: str, tmp_path: Path) -> None:
    file = tmp_path / "jml.toml"
    file.write_text(text)
    load_config(file)


def events(text: str) -> Iterator[dict[str, Any]]:
    """The events of a block: one object over many lines, or one on each."""
    try:
        yield json.loads(text)
    except json.JSONDecodeError:
        yield from map(json.loads, text.splitlines())


SAMPLES = [(page, event) for page in PAGES for block in blocks(page, "json") for event in events(block)]
MODELS = {type_of(model): model for model in MESSAGES}


@pytest.mark.parametrize(("page", "event"), SAMPLES, ids=[f"{name_of(p)}: {e.get('id')}" for p, e in SAMPLES])
def test_an_event_that_a_page_shows_is_valid(page: Path, event: dict[str, Any]) -> None:
    envelope = read_envelope(json.dumps(event).encode(), [("content-type", STRUCTURED.encode())])
    MODELS[envelope.type].model_validate_json(envelope.data)


def test_the_guide_has_a_sample_of_every_message() -> None:
    guide = ROOT / "orchestrator/guide/integrating.md"
    assert {event["type"] for page, event in SAMPLES if page == guide} == MODELS.keys()


def test_the_samples_of_a_page_are_different_events() -> None:
    for page in PAGES:
        keys = [(event["source"], event["id"]) for shown_on, event in SAMPLES if shown_on == page]
        assert len(keys) == len(set(keys)), name_of(page)


# --- decisions --------------------------------------------------------------------------------------------------------


def test_decisions_are_numbered_without_gaps() -> None:
    assert [path.name[:4] for path in DECISIONS] == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]


@pytest.mark.parametrize("page", DECISIONS, ids=name_of)
def test_a_decision_has_its_four_parts_and_is_short(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.name[:4]}: ")
    parts = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert parts == ["Context", "Decision", "Consequences", "How measured"]
    assert len(text.splitlines()) < 70, "half a page; what is longer is two decisions"


def test_a_decision_that_the_code_names_exists() -> None:
    numbers = {path.name[:4] for path in DECISIONS}
    for file in sources():
        named = re.findall(r"[Dd]ecision\s+(\d{4})", re.sub(r"\s*\n\s*", " ", file.read_text()))
        assert set(named) <= numbers, name_of(file)


# --- words ------------------------------------------------------------------------------------------------------------


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def test_every_module_says_what_it_is() -> None:
    modules = [(name_of(path), ast.parse(path.read_text())) for path in sources()]
    assert [name for name, tree in modules if tree.body and not ast.get_docstring(tree)] == []


NOT_OURS = {"state", "build", "dist", "target", "__pycache__"}
"""Made here and ignored by git, as is every folder whose name begins with a dot but these."""
OURS = {".ci", ".github"}
TEXT = {".py", ".md", ".toml", ".yml", ".yaml", ".json", ".jsonl", ".xml", ".mako", ".csv", ".cfg", ".txt", ".ini", ""}
PLACES = re.compile(r"(?<![\w.])/(?:work|root|home/\w+|Users/\w+/(?:src|work|dev))/")
REGISTRIES = re.compile(
    r"\b(?:index-url|extra-index-url|trusted-host|find-links|--registry|artifactory|devpi|/simple/?\b|repo1?\.maven"
    r"|files\.pythonhosted|pypi\.org|registry\.npmjs|GOPROXY)",
    re.IGNORECASE,
)


def texts() -> Iterator[Path]:
    """Every file of the checkout that may be committed, apart from this one, which names what it looks for."""
    for folder, inner, files in os.walk(ROOT):
        inner[:] = [
            name
            for name in inner
            if name in OURS or not (name.startswith(".") or name in NOT_OURS or name.endswith(".egg-info"))
        ]
        yield from (
            path
            for name in files
            if name != ".git"  # a file in a checkout beside another one
            and (path := Path(folder, name)).suffix in TEXT
            and path != Path(__file__).resolve()
        )


def test_no_text_names_a_place_on_somebodys_machine_or_a_registry() -> None:
    found = []
    for path in texts():
        text = path.read_text(errors="replace")
        found += [f"{name_of(path)}: {match.group()}" for rule in (PLACES, REGISTRIES) for match in rule.finditer(text)]
    assert set(found) <= {"deploy/Dockerfile: /root/"}, "the home in the image is nobody's machine"
