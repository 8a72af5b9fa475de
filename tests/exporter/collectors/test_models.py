"""Models on disk: one info and one size per model and device."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.collectors.models import collect
from exporter.llmster.state import DownloadedModel, LinkPeer, LinkStatus, Quantization
from tests.exporter.collectors.values import by, collected, one
from tests.exporter.readings import model, scrape, snapshot, watched


def test_a_model_is_described_by_its_labels() -> None:
    described = model(
        "qwen/qwen3-8b",
        size_bytes=5_027_784_512,
        format="gguf",
        architecture="qwen3",
        quantization=Quantization("Q4_K_M"),
        params_string="8B",
        vision=False,
        trained_for_tool_use=True,
    )

    samples = collected(collect, scrape(watched(snapshot(models=(described,)))))

    assert one(samples, "llmster_model_info") == (
        {
            "daemon": "local",
            "model": "qwen/qwen3-8b",
            "type": "llm",
            "format": "gguf",
            "architecture": "qwen3",
            "quantization": "Q4_K_M",
            "params": "8B",
            "vision": "false",
            "tools": "true",
            "device": "local",
        },
        1,
    )
    assert one(samples, "llmster_model_size_bytes")[1] == 5_027_784_512


def test_what_the_daemon_did_not_say_is_an_empty_label_and_no_size() -> None:
    samples = collected(collect, scrape(watched(snapshot(models=(model("m"),)))))

    labels, _ = one(samples, "llmster_model_info")
    assert {key for key, value in labels.items() if not value} == {
        "format",
        "architecture",
        "quantization",
        "params",
        "vision",
        "tools",
    }
    assert "llmster_model_size_bytes" not in samples


def test_models_that_could_not_be_listed_are_absent_and_none_is_not_zero() -> None:
    assert collected(collect, scrape(watched(snapshot(models=None)))) == {}
    assert collected(collect, scrape(watched(snapshot(models=())))) == {}
    assert collected(collect, scrape(watched())) == {}


def test_a_model_listed_twice_on_one_device_counts_once() -> None:
    models = (
        model("m", size_bytes=1),
        model("m", size_bytes=2),
        model("m", size_bytes=3, device_identifier="p1"),
        model("e", type_="embedding"),
    )
    link = LinkStatus("own", None, (LinkPeer("p1", "rack"),))

    samples = collected(collect, scrape(watched(snapshot(models=models, link=link))))

    assert by(samples, "llmster_model_size_bytes", "device") == {"local": 1, "rack": 3}
    assert by(samples, "llmster_models", "type") == {"llm": 2, "embedding": 1}


TEXTS = st.sampled_from(["", "a", "b"])
MODELS = st.builds(
    model,
    TEXTS,
    type_=TEXTS,
    size_bytes=st.none() | st.integers(0, 2**62),
    format=st.none() | TEXTS,
    quantization=st.none() | st.builds(Quantization, st.none() | TEXTS),
    device_identifier=st.none() | TEXTS,
    vision=st.none() | st.booleans(),
)


@given(st.lists(MODELS), st.none() | st.builds(LinkStatus, TEXTS, TEXTS, st.just((LinkPeer("b", "a"),))))
def test_no_labels_ever_repeat(models: list[DownloadedModel], link: LinkStatus | None) -> None:
    samples = collected(collect, scrape(watched(snapshot(models=tuple(models), link=link))))

    told = sum(by(samples, "llmster_models", "type").values())
    assert told == len(samples.get("llmster_model_info", {})) <= len(models)
