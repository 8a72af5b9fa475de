from exporter.pipeline.recent import MAX_RECENT, RecentPredictions
from tests.exporter.pipeline.predicting import one


def test_the_latest_prediction_comes_first_with_its_counts_and_without_text() -> None:
    recent = RecentPredictions(lambda identifier: identifier.upper())
    recent.take_prediction(one("first"))
    output = "<think>because</think>so"
    recent.take_prediction(one(output, prompt_tokens=90, predicted_tokens=10, tokens_per_second=20.0))
    newest, oldest = recent.finished
    assert (newest.model, newest.finished_reason) == ("M", "stop")
    assert (newest.prompt_tokens, newest.output_tokens, newest.tokens_per_second) == (90, 10, 20.0)
    assert newest.reasoning_ratio is not None
    assert 0 < newest.reasoning_ratio <= 1
    assert oldest.output_tokens is None
    assert oldest.reasoning_ratio is None
    assert "because" not in repr(recent.finished)


def test_no_more_are_kept_than_a_screen_shows() -> None:
    recent = RecentPredictions(str)
    for _ in range(MAX_RECENT + 7):
        recent.take_prediction(one("text"))
    assert len(recent.finished) == MAX_RECENT
