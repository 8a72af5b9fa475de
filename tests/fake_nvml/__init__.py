"""A libnvidia-ml.so.1 for hosts without a GPU: compiled here, loaded by the genuine pynvml.

Nothing in the product knows of it. The loader finds a library that is already in the process by its soname, so loading
the fake first is enough; in a subprocess, LD_LIBRARY_PATH does the same.
"""

import ctypes
import os
import subprocess
from pathlib import Path

import pynvml

SOURCE = Path(__file__).parent / "fake_nvml.c"
SONAME = "libnvidia-ml.so.1"
SCENARIO_VARIABLE = "FAKE_NVML_SCENARIO"


def build(gcc: Path, directory: Path) -> Path:
    """Compile the library into the directory and return its path."""
    library = directory / SONAME
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC", "-pthread"]
    subprocess.run(
        [gcc, *flags, f"-Wl,-soname,{SONAME}", "-o", library, SOURCE],
        check=True,
        capture_output=True,
        text=True,
    )
    return library


class FakeHost:
    """The host the fake library describes; what is written here is true from the next NVML call on."""

    def __init__(self, library: Path, directory: Path) -> None:
        self.library = library
        self.scenario = directory / "scenario.txt"
        self._lines: list[str] = []
        self._loaded = ctypes.CDLL(str(library))
        self._loaded.fake_nvml_calls.restype = ctypes.c_long
        self.describe()

    def describe(self, *lines: str) -> None:
        """Replace the whole description."""
        self._lines = list(lines)
        self._write()

    def add(self, *lines: str) -> None:
        """Add to the description; of two answers to one question the later one counts."""
        self._lines += lines
        self._write()

    def without(self, line: str) -> None:
        """Take one line back."""
        self._lines.remove(line)
        self._write()

    def calls(self, function: str) -> int:
        """Count how often the function was called since the host was reset."""
        return int(self._loaded.fake_nvml_calls(function.encode()))

    def environment(self) -> dict[str, str]:
        """Give a subprocess this host."""
        return {
            **os.environ,
            "LD_LIBRARY_PATH": str(self.library.parent),
            SCENARIO_VARIABLE: str(self.scenario),
        }

    def reset(self) -> None:
        """Forget every session, call and event, and have pynvml load the library anew."""
        self._loaded.fake_nvml_reset()
        pynvml.nvmlLib = None
        pynvml._nvmlGetFunctionPointer_cache.clear()

    def is_loaded_by_name(self) -> bool:
        """Tell whether the loader gives this library to whoever asks for NVML (a real one may have come first)."""
        return hasattr(ctypes.CDLL(SONAME), "fake_nvml_calls")

    def _write(self) -> None:
        draft = self.scenario.with_suffix(".new")
        draft.write_text("".join(f"{line}\n" for line in self._lines), encoding="utf-8")
        draft.replace(self.scenario)
