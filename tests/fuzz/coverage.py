"""Runs one target under atheris, which changes inputs where that reaches new branches. Never returns.

Knows no progress and no other target: __main__.py starts one process like this for each. Its options are libFuzzer's,
documented at https://llvm.org/docs/LibFuzzer.html.
"""

import argparse
from pathlib import Path
from typing import Final

from tests.fuzz.target import FOUND

MAX_INPUT_BYTES: Final = 512
SLOW_S: Final = 60
"""One input that takes longer counts as broken."""
MAX_MIB: Final = 2048
INSTRUMENTED: Final = ["exporter", "actions", "dashboards", "tests.fuzz"]


def artifact_prefix(name: str) -> str:
    """Say how atheris begins the path of an input that broke a target."""
    return str(FOUND / f".{name}-")


def fuzz(name: str, *, runs: int, seconds: int, corpus: Path) -> None:
    """Run a target `runs` times, or for `seconds` if that is less; leave the process with libFuzzer's status."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.targets import BY_NAME  # not before: what is imported already stays as it is
    target = BY_NAME[name]
    corpus.mkdir(parents=True, exist_ok=True)
    options = [
        f"-runs={runs}",
        f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-timeout={SLOW_S}",
        f"-rss_limit_mb={MAX_MIB}",
        f"-artifact_prefix={artifact_prefix(name)}",
        "-len_control=0",
        str(corpus),
        str(FOUND),
    ]
    atheris.Setup(["fuzz", *options], target.run)
    atheris.Fuzz()


def main() -> None:
    """Take the words __main__.py starts this with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--seconds", type=int, required=True)
    fuzz(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
