"""Prove the checker: each mutant in real processes, in a scene that provokes it, and the verdict has to find it."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from orchestrator.chaos.judge import judge
from orchestrator.chaos.scenes import SCENE_OF, SCENES, SETTLE_SECONDS, Scene
from orchestrator.chaos.stage import Progress, Setting, open_stage
from orchestrator.errors import UserError
from orchestrator.simulation.mutants import MUTANTS

MUTANT_SETTLE_SECONDS = 30.0
"""What a mutant has lost never comes to rest."""
NO_PROOF = ("nobody_gave_up", "witnesses_agree")
"""Checks that a role which breaks down fails, whatever it does to anybody's access."""


@dataclass(frozen=True, slots=True)
class Row:
    """A scene that was played. `name` is empty where no safeguard was missing."""

    name: str
    about: str
    violations: list[str]
    seconds: float

    @property
    def caught_by(self) -> list[str]:
        """The promises that were broken."""
        found = [one.partition(":")[0] for one in self.violations]
        return sorted({one for one in found if not self.name or one not in NO_PROOF})

    @property
    def good(self) -> bool:
        """Whether a mutant was caught, or nothing was found where nothing was wrong."""
        return bool(self.caught_by) is bool(self.name)

    def said(self) -> str:
        """For the table."""
        if self.name:
            return ", ".join(self.caught_by) or "NOT CAUGHT"
        return "; ".join(self.violations) or "nothing, as it should be"

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "caught_by": self.caught_by, "good": self.good}


def chosen(names: Sequence[str]) -> list[str]:
    """The mutants to play; all of them where none is named. Raises UserError for one that we do not know."""
    for name in names:
        if name not in SCENE_OF:
            raise UserError(f"there is no mutant {name!r}; there are {', '.join(SCENE_OF)}")
    return [name for name in SCENE_OF if name in names or not names]


async def hunt(
    kafka: str, store: str, names: Sequence[str], folder: Path, progress: Progress, *, control: bool
) -> list[Row]:
    """Play them one after another, each in a folder of its own."""
    plays: list[tuple[str, str]] = [(name, SCENE_OF[name]) for name in names]
    if control:
        plays += [("", scene) for scene in dict.fromkeys(SCENE_OF[name] for name in names)]
    rows = []
    for number, (mutant, scene) in enumerate(plays):
        progress("mutants and controls", number, len(plays))
        place = folder / (mutant or f"control-{scene}")
        place.mkdir()
        rows.append(await _play(kafka, store, mutant, SCENES[scene], place))
        (folder / "rows.json").write_bytes(orjson.dumps([row.document() for row in rows], option=orjson.OPT_INDENT_2))
    progress("mutants and controls", len(plays), len(plays))
    return rows


async def _play(kafka: str, store: str, mutant: str, scene: Scene, folder: Path) -> Row:
    loop = asyncio.get_running_loop()
    began = loop.time()
    setting = Setting(
        kafka,
        store,
        apps=1,
        rechecks=False,
        crew=scene.crew,
        unique=scene.unique,
        habit=scene.habit,
        mutant=mutant or None,
        session=scene.session,
        timeout=scene.timeout,
    )
    async with open_stage(setting, folder) as stage:
        await stage.until_ready(_unseen)
        stage.faults(on=True)
        await scene.play(stage, _unseen)
        settled = await stage.until_quiet(MUTANT_SETTLE_SECONDS if mutant else SETTLE_SECONDS, _unseen)
        stage.faults(on=False)
        evidence = await stage.end()
    violations = judge(evidence)
    if not settled and not mutant:
        violations.insert(0, "quiet: work was left over")
    about = MUTANTS[mutant].about if mutant else f"nothing: {scene.about}"
    return Row(mutant, about, violations, loop.time() - began)


def _unseen(phase: str, done: int, total: int) -> None:
    """Whole scenes are the progress here."""
