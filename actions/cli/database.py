"""Opens the database of the state folder for a command; errors become one line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from exporter.shared.terminal import fail, say

if TYPE_CHECKING:
    from actions.store.database import Storage

T = TypeVar("T")


def state_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that locate the database."""
    command = click.option("--state", help="Folder of the database.  [env: DAEMONPULSE_ACTIONS_STATE]")(
        command
    )
    return click.option("--config", help="TOML file.  [env: DAEMONPULSE_CONFIG]")(command)


def with_storage(
    flags: Mapping[str, str | None], work: Callable[[Storage], Awaitable[T]], *, create: bool = False
) -> T:
    """Open the database, run one function and close it. A folder without a database is an error unless `create`."""
    from actions.settings import state_folder
    from actions.store.database import FILE_NAME, Storage, StorageFailed
    from exporter.shared.settings_table import SettingsError

    async def run(folder: Path) -> T:
        is_new = create and not (folder / FILE_NAME).exists()
        storage = await Storage.open(folder, create=create)
        try:
            if is_new:  # a mistyped folder looks like this
                say(f"made a new database: {folder / FILE_NAME}", err=True)
            return await work(storage)
        finally:
            await storage.close()

    try:
        return asyncio.run(run(state_folder(flags)))
    except (SettingsError, StorageFailed) as error:
        fail(str(error))
