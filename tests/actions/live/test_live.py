"""The live view from the daemon to the actions API: counts for all, text for few, on record, and never for nothing."""

import asyncio
import contextlib
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from actions.live.feeds import MAX_READERS, MAX_TEXTS
from actions.store.database import StorageFailed
from exporter.llmster import http_body
from llmster_sim.server import Simulator
from tests.actions.conftest import StartForge, make_token
from tests.actions.live.chain import END, HEAD, TOKEN, Gate, chain, delta, events

THOUGHT = (HEAD, delta(reasoning_content="Let me "), delta(reasoning_content="see."))


async def test_reasoning_and_answer_come_while_they_are_written(tmp_path: Path) -> None:
    more, end = Gate(), Gate()
    script = (*THOUGHT, more, delta(content="It is "), delta(content="four."), end, END)
    async with chain(tmp_path, script) as all_of:
        asked = all_of.ask()
        request = await all_of.request()
        async with all_of.look(request) as answer:
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            told = events(answer)
            name, first = await anext(told)
            assert (name, first["start"], first["text"]) == ("text", 0, "Let me see.")
            assert first["phases"] == [{"kind": "reasoning", "start": 0, "end": 11}]
            more.open()
            text, last = first["text"], first
            while not text.endswith("four."):
                _, last = await anext(told)
                assert last["start"] == len(text), "only what is new is sent"
                text += last["text"]
            assert last["phases"] == [
                {"kind": "reasoning", "start": 0, "end": 11},
                {"kind": "answer", "start": 11, "end": 22},
            ]
            end.open()
            over = [value async for _, value in told][-1]
            assert over["is_over"]
        assert (await asked).status_code == 200


@pytest.mark.parametrize("size", [1, 3, 7, 100])
async def test_tags_of_a_model_are_told_from_its_text_however_it_is_cut(tmp_path: Path, size: int) -> None:
    written = "<think>Two and two</think>\n\nFour."
    pieces = [delta(content=written[at : at + size]) for at in range(0, len(written), size)]
    end = Gate()
    async with chain(tmp_path, (HEAD, *pieces, end, END)) as all_of:
        asked = all_of.ask()
        request = await all_of.request()
        text, stretches = "", []
        async with all_of.look(request) as answer:
            async for _, value in events(answer):
                text += value["text"]
                if text == written:
                    stretches = [(one["kind"], text[one["start"] : one["end"]]) for one in value["phases"]]
                    break
        assert stretches == [("reasoning", "Two and two"), ("answer", "Four.")]
        end.open()
        await asked


async def test_each_look_is_on_record_before_its_text(tmp_path: Path) -> None:
    end = Gate()
    async with chain(tmp_path, (*THOUGHT, end, END)) as all_of:
        asked = all_of.ask()
        request = await all_of.request()
        for person in ("ann", "bob"):
            async with all_of.look(request, seconds=0, X_Grafana_User=person) as answer:
                assert [value["text"] async for _, value in events(answer)] == ["Let me see."]
        rows = [row for row in await all_of.forge.audit() if row["action"] == "live.text"]
        assert [(row["kind"], row["subject"], row["person"]) for row in rows] == [
            ("event", f"box/{request}", "ann"),
            ("event", f"box/{request}", "bob"),
        ]
        assert "Let me" not in json.dumps(rows)
        end.open()
        await asked


async def test_without_a_record_there_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end = Gate()
    async with chain(tmp_path, (*THOUGHT, end, END)) as all_of:
        asked = all_of.ask()
        request = await all_of.request()

        async def full(*_: Any, **__: Any) -> None:
            raise StorageFailed("the disk is full")

        monkeypatch.setattr(all_of.forge.parts.service.audit, "record", full)
        async with all_of.look(request) as answer:
            body = await answer.aread()
        assert answer.status_code == 503
        assert b"audit-unavailable" in body
        assert b"Let me" not in body
        counts = await all_of.forge.http.get("/v1/live")
        assert counts.status_code == 200, "counts need no record"
        end.open()
        await asked


@pytest.mark.parametrize("scope", ["read", "operate", "admin"])
async def test_no_other_scope_sees_text_and_all_see_counts(tmp_path: Path, scope: str) -> None:
    end = Gate()
    async with chain(tmp_path, (*THOUGHT, end, END)) as all_of:
        asked = all_of.ask()
        request = await all_of.request()
        token = await all_of.forge.token(scope, name=scope)
        async with all_of.look(request, token=token) as answer:
            body = await answer.aread()
        assert answer.status_code == 403
        assert b"Let me" not in body
        counts = await all_of.forge.http.get("/v1/live", headers={"Authorization": f"Bearer {token}"})
        row = json.loads(counts.text.partition("data: ")[2])["in_flight"][0]
        assert (row["client"], row["model"], row["phase"], row["output_tokens"]) == (
            "curl",
            "m",
            "reasoning",
            2,
        )
        assert row["has_text"]
        assert "Let me" not in counts.text
        refused = [entry for entry in await all_of.forge.audit("denied") if entry["action"] == "live.text"]
        assert len(refused) == 1
        end.open()
        await asked


async def test_a_token_of_scope_text_changes_nothing(tmp_path: Path) -> None:
    async with chain(tmp_path) as all_of:
        headers = {"Authorization": f"Bearer {all_of.text_token}"}
        answer = await all_of.forge.http.post(
            "/v1/daemons/box/models/load", params={"model": "m"}, headers=headers
        )
        assert answer.status_code == 403


async def test_a_revoked_token_sees_no_more(tmp_path: Path) -> None:
    end = Gate()
    async with chain(tmp_path, (*THOUGHT, end, END)) as all_of:
        asked = all_of.ask()
        request = await all_of.request()
        async with all_of.look(request, seconds=300) as answer:
            told = events(answer)
            await anext(told)
            parts = all_of.forge.parts
            await parts.service.storage.write(lambda db: parts.tokens.revoke(db, "think"))
            async with asyncio.timeout(20):
                assert [value async for value in told] == []
        end.open()
        await asked


async def test_the_doors_below_open_to_their_token_only(tmp_path: Path) -> None:
    end = Gate()
    async with chain(tmp_path, (*THOUGHT, end, END)) as all_of:
        asked = all_of.ask()
        request = await all_of.request()
        doors = (
            f"{all_of.exporter.url}/live/text?daemon=box&request={request}",
            f"{all_of.reports_url}/text?request={request}",
        )
        async with httpx.AsyncClient(trust_env=False) as http:
            for door in doors:
                for wrong in ({}, {"Authorization": "Bearer no"}, {"Authorization": TOKEN.header[:-1]}):
                    answer = await http.get(door, headers=wrong)
                    assert answer.status_code == 401
                    assert "Let me" not in answer.text
                answer = await http.get(door, headers={"Authorization": TOKEN.header})
                assert answer.json()["text"] == "Let me see."
            for path in ("/live", "/metrics", "/"):
                assert "Let me" not in (await http.get(all_of.exporter.url + path)).text
        end.open()
        await asked


async def test_with_capture_off_no_text_is_kept_anywhere(tmp_path: Path) -> None:
    end = Gate()
    async with chain(tmp_path, (*THOUGHT, end, END), token=None) as all_of:
        asked = all_of.ask()
        request = await all_of.request()
        async with all_of.look(request) as answer:
            body = await answer.aread()
        assert answer.status_code == 404
        assert b"live_token_file" in body
        right = {"Authorization": TOKEN.header}
        async with httpx.AsyncClient(trust_env=False, headers=right) as http:
            for door in (
                f"{all_of.exporter.url}/live/text?daemon=box&request={request}",
                f"{all_of.reports_url}/text?request={request}",
            ):
                answer = await http.get(door)
                assert answer.status_code == 404
                assert "Let me" not in answer.text
        end.open()
        await asked


async def test_a_request_that_nobody_knows_has_no_text(tmp_path: Path) -> None:
    async with chain(tmp_path) as all_of:
        for request in ("0000000000000000-1", "x", "-", "1-1-1"):
            async with all_of.look(request) as answer:
                await answer.aread()
            assert answer.status_code == 404, request


async def test_fifty_readers_share_one_reading_and_one_more_is_told_to_wait(tmp_path: Path) -> None:
    async with chain(tmp_path) as all_of:
        headers = dict(all_of.forge.http.headers)
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(
            base_url=all_of.forge.url, headers=headers, trust_env=False, timeout=60, limits=limits
        ) as http:
            opened = [
                await http.send(http.build_request("GET", "/v1/live?seconds=300"), stream=True)
                for _ in range(MAX_READERS)
            ]
            assert {answer.status_code for answer in opened} == {200}
            one_more = await http.get("/v1/live?seconds=300")
            assert (one_more.status_code, one_more.headers["retry-after"]) == (429, "5")
            other = await make_token(all_of.forge.parts.service.storage, "read", name="other")
            theirs = http.build_request(
                "GET", "/v1/live?seconds=300", headers={"Authorization": f"Bearer {other}"}
            )
            opened.append(await http.send(theirs, stream=True))  # one token's readers leave others theirs
            assert opened[-1].status_code == 200
            async with asyncio.timeout(20):
                assert b"event: requests" in await opened[0].aread()  # the first of the many has ended
            for answer in opened:  # readers that go away give their place back
                await answer.aclose()

            async with asyncio.timeout(20):
                while (await http.get("/v1/live")).status_code != 200:  # noqa: ASYNC110 - the service notices it
                    await asyncio.sleep(0.05)


async def test_texts_are_bounded_in_number(tmp_path: Path) -> None:
    end = Gate()
    scripts = [(*THOUGHT, end, END) for _ in range(MAX_TEXTS + 1)]
    async with chain(tmp_path, *scripts) as all_of, contextlib.AsyncExitStack() as looks:
        asked = [all_of.ask() for _ in scripts]
        rows = await all_of.in_flight(
            lambda rows: sum(bool(row["output_tokens"]) for row in rows) > MAX_TEXTS
        )
        for row in rows[:MAX_TEXTS]:
            answer = await looks.enter_async_context(all_of.look(row["request"]))
            assert answer.status_code == 200
        async with all_of.look(rows[-1]["request"]) as answer:
            await answer.aread()
        assert answer.status_code == 429
        end.open()
        await asyncio.gather(*asked)


async def test_an_exporter_that_is_away_is_a_problem_and_not_an_empty_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chain(tmp_path) as all_of:
        async with all_of.forge.http.stream("GET", "/v1/live?seconds=60") as answer:
            told = events(answer)
            assert (await anext(told))[0] == "requests"
            monkeypatch.setattr(http_body, "ask", gone)
            async with asyncio.timeout(20):
                while (found := await anext(told))[0] != "problem":
                    pass
            assert re.fullmatch(
                r"the exporter at http://\S+ does not answer: ConnectError", found[1]["detail"]
            )
            monkeypatch.undo()
            async with asyncio.timeout(20):
                while (await anext(told))[0] != "requests":
                    pass
        monkeypatch.setattr(http_body, "ask", gone)
        answer = await all_of.forge.http.get("/v1/live")
        assert answer.status_code == 503
        assert answer.json()["type"].endswith("exporter-unreachable")


async def test_a_service_without_an_exporter_says_so(start_forge: StartForge, sim: Simulator) -> None:
    forge = await start_forge(sim)
    answer = await forge.http.get("/v1/live")
    assert answer.status_code == 404
    assert "exporter_url" in answer.json()["detail"]


async def gone(*_: Any, **__: Any) -> None:
    raise httpx.ConnectError("refused")
