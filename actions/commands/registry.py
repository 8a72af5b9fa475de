"""Every action, by its command. A new one is a class here, a command in domain/command.py, a route and a CLI verb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from actions.commands.action import Action, Tools
from actions.commands.download import DownloadAction
from actions.commands.eject import EjectAction
from actions.commands.eject_all import EjectAllAction
from actions.commands.engines import SelectEngineAction, UpdateEngineAction
from actions.commands.load import LoadAction
from actions.commands.probe import ProbeAction
from actions.domain.command import Command

ACTIONS: Final[tuple[type[Action[Any]], ...]] = (
    LoadAction,
    EjectAction,
    EjectAllAction,
    DownloadAction,
    ProbeAction,
    SelectEngineAction,
    UpdateEngineAction,
)


def actions_of(tools: Tools) -> Mapping[type[Command], Action[Any]]:
    """Make the actions of one daemon."""
    return {action.COMMAND: action(tools) for action in ACTIONS}
