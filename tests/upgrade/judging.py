"""Compares what an action does without a field with what it declares."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from actions.domain.evidence import AS_EVER, KNOWS_LESS, lacking
from daemonpulse import upgrade
from tests.upgrade.acting import Scene, Told, evidence, rehearse, with_changes
from tests.upgrade.fields import CHANGES, fields_of

OPEN: Final = {"not-verified", "interrupted", "timeout"}
"""Refusals that leave open whether the daemon has done it."""
ANY_VALUE: Final = {("getLoadConfig", "fields.value")}
"""Fields of which a value of any type is one, so that another type costs nothing here."""


class NotAsEver(Exception):
    """An action does not even do what it is to do on a daemon whose answers are as ever."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """A scene, what it tells of a daemon that answers as ever, and the fields of those answers."""

    scene: Scene
    told: Told
    fields: tuple[tuple[str, str], ...]

    @classmethod
    async def of(cls, scene: Scene) -> Self:
        """Play it as ever. Raises NotAsEver where it does something else then, so that there is nothing to compare."""
        with tempfile.TemporaryDirectory() as home:
            told, answers = await rehearse(scene, Path(home))
        if told.refusal != scene.refusal:
            raise NotAsEver(f"{scene.action} ({scene.when}), as ever: {told}")
        return cls(scene, told, tuple(fields_of(answers)))

    def needed(self) -> list[tuple[str, str]]:
        """List the fields without which it does not do as ever."""
        return [field for field in self.fields if self.expected(*field) != AS_EVER]

    def others(self) -> dict[str, list[str]]:
        """List the fields without which it does as ever, by call; what is inside a needed one goes with it."""
        needed = {f"{call}:{path}" for call, path in self.needed()}
        inside = tuple(f"{field}." for field in needed)
        found: dict[str, list[str]] = {}
        for call, path in self.fields:
            if f"{call}:{path}" not in needed and not f"{call}:{path}".startswith(inside):
                found.setdefault(call, []).append(path)
        return found

    def expected(self, call: str, path: str) -> str:
        """Say what it does without a field, by what it declares."""
        lack = lacking(upgrade.EVIDENCE[self.scene.action], [f"{call}:{path}"], self.scene.when)
        return lack.effect if lack is not None else AS_EVER

    async def fault(self, call: str, paths: Iterable[str], change: str, expected: str) -> str | None:
        """Play it with fields changed; say what is not as expected."""
        paths = tuple(paths)
        where = f"{self.scene.action} ({self.scene.when}), {call}:{','.join(paths)[:300]} {change}"
        try:
            with tempfile.TemporaryDirectory() as home:
                told, is_done = await with_changes(self.scene, call, paths, CHANGES[change], Path(home))
        except Exception as error:  # noqa: BLE001 - one case must not end the others
            return f"{where}: {error!r}"
        as_ever = (told.refusal, evidence(told.answer)) == (self.told.refusal, evidence(self.told.answer))
        found = AS_EVER if as_ever else told.refusal or KNOWS_LESS
        if found != expected:
            return f"{where}: expected {expected!r}, and it is {found!r}: {told}"
        if not told.refusal and is_done is False:
            return f"{where}: a success without evidence: {told}"
        if told.refusal and told.refusal not in OPEN and is_done:
            return f"{where}: refused, and done all the same: {told}"
        return None
