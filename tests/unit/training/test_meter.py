import protlm.training.loop as loop_module
from protlm.training.loop import _Meter


def test_the_rate_counts_steps_alone_and_survives_an_interruption(monkeypatch):
    """Two steps of 3 s and 100 tokens each; an evaluation of 50 s and an interruption between them."""
    clock = iter([0.0, 10.0, 13.0, 13.0, 63.0, 70.0, 80.0, 83.0, 83.0])
    monkeypatch.setattr(loop_module.time, "perf_counter", lambda: next(clock))
    meter = _Meter()  # at 0
    meter.start()  # at 10
    meter.add({"loss": (2.0, 1)}, 100, 1.0)  # at 13
    meter.start()  # after an evaluation, at 63
    assert meter.tokens_per_second == 100 / 3
    resumed = _Meter()  # at 70
    resumed.restore(meter.state())
    resumed.start()  # at 80
    resumed.add({"loss": (4.0, 1)}, 100, 1.0)  # at 83
    assert resumed.take()["tokens_per_second"] == 200 / 6
