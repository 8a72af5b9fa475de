# What developers type. `just` lists it; https://just.systems, or read the commands here.
python := ".venv/bin/python"

# List the recipes.
default:
    @just --list

# Make the virtual environment with everything that tests need.
setup:
    python3 -m venv .venv && .venv/bin/pip install -q -c compose/constraints.txt -e '.[test]'

# Format, lint, types, imports, dependencies, spelling, and the tests that need no other process.
fast:
    {{python}} -m tests.gate --fast

# Everything, as CI runs it.
gate:
    {{python}} -m tests.gate

# Run one test file, folder or test: `just test tests/exporter/pipeline -k slots`.
test *arguments:
    {{python}} -m pytest -n 0 {{arguments}}

# Write what is generated: boards, rules, docs/DASHBOARDS.md, docs/METRICS.md, golden scrapes.
generate:
    .venv/bin/daemonpulse dashboards build
    {{python}} -m exporter.catalogue.document > docs/METRICS.md
    DAEMONPULSE_TEST_UPDATE=1 {{python}} -m pytest -q -n 0 tests/system/test_state_metrics.py tests/system/test_hardware_metrics.py

# The benchmarks, with ratios against a floor or a peer.
bench *arguments:
    {{python}} -m tests.benchmarks {{arguments}}

# A simulated daemon, GPUs, exporter, actions API, and what of the stack is installed.
demo:
    .venv/bin/daemonpulse demo
