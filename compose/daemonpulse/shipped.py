"""Finds the files that DaemonPulse comes with: those of the stack, the boards and the rules.

In a checkout and in an installed package they are at different places.
"""

from __future__ import annotations

from pathlib import Path


def stack_folder() -> Path:
    """Find the stack's files: inside the installed package, or in the checkout's compose/ folder."""
    packaged = Path(__file__).parent / "stack"
    return packaged if packaged.is_dir() else Path(__file__).parents[1]


def generated() -> Path:
    """Find the boards and rules: in the checkout, or, installed, beside this package."""
    checkout = Path(__file__).parents[2] / "dashboards" / "generated"
    return checkout if checkout.is_dir() else Path(__file__).parents[1] / "dashboards" / "generated"
