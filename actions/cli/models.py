"""The client verbs about models: load, eject, eject-all, preflight, download, probe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

import click

from actions.cli import completion
from actions.cli.client import verb_flags
from actions.cli.connection import Api, Refused
from actions.cli.fleet import run_group
from actions.cli.load_flags import plan_flags
from actions.cli.output import age_of, gib, show
from exporter.shared.terminal import fail, plain, say, say_json


def _replace_flag(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--replace", multiple=True, help="Instance to eject first; may be given again.")(
        command
    )


@click.command()
@click.argument("model", shell_complete=completion.models)
@plan_flags
@_replace_flag
@click.option("--force", is_flag=True, help="Load although it does not fit. Needs --reason.")
@click.option("--reason", help="Goes into the audit.")
@verb_flags
def load(*, api: Api, as_json: bool, **parameters: Any) -> None:
    """Load MODEL and wait for it. Nothing happens if it is loaded with this configuration already.

    \b
    Example:  daemonpulse actions load qwen/qwen3-8b --context-length 32768 --ttl 1h
    """  # noqa: D301 - click wants a real backspace before lines that are to stay as they are
    _run(api, "models/load", parameters, _loaded, as_json=as_json)


@click.command()
@click.argument("instance_id", shell_complete=completion.instances)
@click.option(
    "--drain",
    "drain_seconds",
    type=click.FloatRange(0, 3600),
    default=0.0,
    show_default=True,
    help="Wait so many seconds for its queue to empty, then eject.",
)
@click.option("--force", is_flag=True, help="Eject at once and end the requests in flight.")
@click.option("--reason", help="Goes into the audit.")
@verb_flags
def eject(*, api: Api, as_json: bool, **parameters: Any) -> None:
    """Eject INSTANCE_ID and make sure that it is gone.

    With requests in flight it asks at a terminal, else it requires --force or --drain.

    \b
    Example:  daemonpulse actions eject qwen/qwen3-8b --drain 30
    """  # noqa: D301 - as above
    if api.is_group:
        run_group(api, "eject", parameters, _ejected, as_json=as_json)
    try:
        operation = api.try_command("models/eject", parameters)
    except Refused as refusal:
        if refusal.slug != "instance-busy" or not sys.stdin.isatty():
            fail(refusal.words(), refusal.exit_code)
        asked = f"{parameters['instance_id']} has {_requests(refusal.body.get('queued'))} in flight."
        if not click.confirm(f"{plain(asked)} End them?", err=True):
            fail("nothing was ejected", 1)
        operation = api.command("models/eject", parameters | {"force": True})
    show(operation, _ejected(operation), as_json=as_json)


@click.command("eject-all")
@click.option("--reason", help="Goes into the audit.")
@verb_flags
def eject_all(*, api: Api, as_json: bool, **parameters: Any) -> None:
    """Eject everything, busy or not: the kill switch.

    \b
    Example:  daemonpulse actions eject-all --reason "GPU 0 overheats"
              daemonpulse actions eject-all --site east
    """  # noqa: D301 - as above
    _run(api, "models/eject-all", parameters, _all_ejected, as_json=as_json, bar=False)


@click.command()
@click.argument("model", shell_complete=completion.models)
@plan_flags
@_replace_flag
@verb_flags
def preflight(*, api: Api, as_json: bool, **parameters: Any) -> None:
    """Tell whether MODEL would fit, and who holds the memory. Exits 1 if it does not fit.

    \b
    Example:  daemonpulse actions preflight qwen/qwen3-8b --context-length 32768
    """  # noqa: D301 - as above
    answer = api.ask("POST", api.path("preflight"), parameters)
    if as_json:
        say_json(answer)
    else:
        _print_preflight(answer)
    sys.exit(1 if answer["verdict"] == "does_not_fit" else 0)


@click.command()
@click.argument("model", shell_complete=completion.models)
@plan_flags
@verb_flags
def fit(*, api: Api, as_json: bool, **parameters: Any) -> None:
    """Tell which context of MODEL fits now, and on which GPUs.

    Exits 1 if nothing fits.

    \b
    Example:  daemonpulse actions fit qwen/qwen3-8b --parallel 4 --kv q8
    """  # noqa: D301 - as above
    answer = api.ask("POST", api.path("fit"), parameters)
    if as_json:
        say_json(answer)
    else:
        _print_fit(answer)
    sys.exit(0 if answer["fits"] else 1)


@click.command()
@click.argument("model", shell_complete=completion.models)
@click.option("--quantization", help="Which one, where the model has several, such as Q4_K_M.")
@click.option("--cancel", is_flag=True, help="Cancel the download of MODEL that is under way.")
@click.option("--reason", help="Goes into the audit.")
@verb_flags
def download(
    *,
    api: Api,
    as_json: bool,
    cancel: bool,
    **parameters: Any,
) -> None:
    """Download MODEL and follow it to its end.

    \b
    Example:  daemonpulse actions download qwen/qwen3-8b
    """  # noqa: D301 - as above
    if cancel:
        ended = _cancel_download(api, api.daemon(), parameters["model"])
        show(ended, f"{parameters['model']}: {ended['state']}", as_json=as_json)
        return
    _run(api, "models/download", parameters, _downloaded, as_json=as_json)


@click.command()
@click.argument("model", shell_complete=completion.models)
@click.option("--force", is_flag=True, help="Also when loading it would not fit. Needs --reason.")
@click.option("--reason", help="Goes into the audit.")
@verb_flags
def probe(*, api: Api, as_json: bool, **parameters: Any) -> None:
    """Send one short chat to MODEL and time it.

    The daemon loads the model just in time.

    \b
    Example:  daemonpulse actions probe qwen/qwen3-8b
              daemonpulse actions probe qwen/qwen3-8b --site east
    """  # noqa: D301 - as above
    _run(api, "probe", parameters, _probed, as_json=as_json)


def _run(
    api: Api,
    path: str,
    parameters: Mapping[str, Any],
    words: Callable[[Any], str],
    *,
    as_json: bool,
    bar: bool = True,
) -> None:
    """Run a command on the daemon that is meant, or on several, and print what came of it."""
    if api.is_group:
        run_group(api, path.rpartition("/")[2], parameters, words, as_json=as_json)
    operation = api.command(path, parameters, bar=bar and not as_json)
    show(operation, words(operation), as_json=as_json)


def _loaded(operation: Any) -> str:
    result = operation["result"]
    if result["already_loaded"]:
        return f"{result['instance_id']} was loaded already"
    return f"{result['instance_id']} loaded in {result['took_seconds']:.1f} s"


def _ejected(operation: Any) -> str:
    ended = operation["result"].get("queued_when_ejected")
    words = f"; {_requests(ended)} in flight ended" if ended else ""
    return f"{operation['subject']} ejected{words}"


def _all_ejected(operation: Any) -> str:
    result = operation["result"]
    is_told = result.get("still_loading", []) is not None
    unknown = "" if is_told else "; whether the daemon is loading anything is not known: it does not tell"
    return f"ejected: {', '.join(result['ejected']) or 'nothing was loaded'}{unknown}"


def _downloaded(operation: Any) -> str:
    return f"{operation['subject']}: {operation['result']['status'].replace('_', ' ')}"


def _probed(operation: Any) -> str:
    result = operation["result"]
    first, load_s = result["time_to_first_token_seconds"], result["load_seconds"]
    ttft = f"{first:.3f} s" if first is not None else "none"
    loading = f", loaded in {load_s:.1f} s" if load_s is not None else ""
    return f"{operation['subject']}: TTFT {ttft}, total {result['total_seconds']:.3f} s{loading}"


def _requests(count: Any) -> str:
    return f"{count} request{'' if count == 1 else 's'}"


def _cancel_download(api: Api, daemon: str, model: str) -> Any:
    recent = api.ask("GET", "/v1/operations", {"daemon": daemon, "limit": 1000})["operations"]
    wanted = ("download", model, None)
    found = [one for one in recent if (one["action"], one["subject"], one["finished_ms"]) == wanted]
    if not found:
        fail(f"{model}: no download of it is under way", 1)
    return api.ask("POST", f"/v1/operations/{found[0]['id']}/cancel", {})


def _print_preflight(answer: Any) -> None:
    say(f"{answer['verdict'].replace('_', ' ')}: {'; '.join(answer['reasons']) or 'with room to spare'}")
    if answer["estimate"] is not None:
        learned = answer["learned"]
        ratio = f" x {learned['ratio']:.2f} learned from {learned['samples']} loads" if learned else ""
        estimate = gib(answer["estimate"]["vram_bytes"])
        say(f"  needs {gib(answer['needed_bytes'])} ({estimate} estimated{ratio})")
    for gpu in answer["gpus"]:
        free = f"{gib(gpu['free_bytes'], gpu['total_bytes'])} free"
        age = age_of(answer["memory_age_seconds"])
        say(f"  GPU {gpu['index']}: {free}{age}, {gib(gpu['needed_bytes'])} needed")
    for holder in answer["holders"]:
        who = holder["instance_id"] or holder["process"] or "unknown"
        pid = f", pid {holder['pid']}" if holder["pid"] is not None else ""
        say(f"    GPU {holder['gpu']}: {who}{pid} holds {gib(holder['memory_bytes'])}")


def _print_fit(answer: Any) -> None:
    now, wanted = answer["now"], answer["wanted"]
    if now is not None:
        parallel = answer["parallel"]
        each = f" ({now['context_length'] // parallel} for each of {parallel} requests)" if parallel else ""
        say(f"fits now: a context of {now['context_length']} tokens{each}")
        _print_needs(now, answer)
    if wanted is not None:
        say(f"does not fit now: a context of {wanted['context_length']} tokens")
        _print_needs(wanted, answer)
        if wanted["evict"]:
            say(f"  would have to go: {', '.join(wanted['evict'])}")
        else:
            say("  no eject would make room")
        for one in answer["kept"]:
            say(f"  stays: {one['instance_id']} ({one['why']})")
    loads = f"{answer['samples']} measured loads" if answer["samples"] else "no measured load, with a margin"
    say(f"from {answer['estimates']} of at most {answer['max_estimates']} estimates, corrected by {loads}")


def _print_needs(one: Any, answer: Any) -> None:
    age = age_of(answer["memory_age_seconds"])
    say(f"  needs {gib(one['needed_bytes'])} ({gib(one['estimate_bytes'])} estimated)")
    for gpu in one["gpus"]:
        freed = f" + {gib(gpu['freed_bytes'])} freed" if gpu["freed_bytes"] else ""
        say(f"  GPU {gpu['index']}: {gib(gpu['needed_bytes'], gpu['free_bytes'])} free{age}{freed}")


MODEL_COMMANDS: Final = (load, eject, eject_all, preflight, fit, download, probe)
