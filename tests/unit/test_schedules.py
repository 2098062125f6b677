"""Schedules: values by hand, bounds that hold, mistakes named."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from protlm.config import BaseConfig
from protlm.errors import ConfigError
from protlm.schedules import (
    CosineSchedule,
    LinearSchedule,
    Schedule,
    ScheduledRate,
    ScheduledWeight,
    SigmoidSchedule,
    StepsSchedule,
    schedules_in,
    value_at,
)

CURRAB = SigmoidSchedule(A=0.4, B=0.7, k=15, shift=0.8166)


class Settings(BaseConfig):
    rate: ScheduledRate = 0.15
    weights: dict[str, ScheduledWeight] = Field(default={})


class TestCurrAb:
    """p(t) = B − A·σ(k(t − shift)), the share of unpaired sequences; published values to three digits."""

    @pytest.mark.parametrize(("progress", "share"), [(0, 0.700), (0.5, 0.697), (0.8166, 0.500), (1, 0.324)])
    def test_has_its_published_values(self, progress, share):
        assert CURRAB.at(progress) == pytest.approx(share, abs=5e-4)

    def test_has_the_mean_of_the_constant_mix(self):
        places = (np.arange(100_000) + 0.5) / 100_000
        assert np.mean([CURRAB.at(place) for place in places]) == pytest.approx(0.625, abs=5e-4)

    def test_equals_the_logistic_function_it_is_written_with(self):
        for place in np.linspace(0, 1, 41):
            logistic = 1 / (1 + np.exp(-15 * (place - 0.8166)))
            assert CURRAB.at(place) == pytest.approx(0.7 - 0.4 * logistic, abs=1e-14)

    def test_is_one_line_of_yaml(self, tmp_path):
        path = tmp_path / "one.yaml"
        path.write_text("rate: {kind: sigmoid, A: 0.4, B: 0.7, k: 15, shift: 0.8166}\n")
        assert Settings.load(path).rate == CURRAB


def test_a_steep_sigmoid_does_not_overflow():
    steep = SigmoidSchedule(A=1, B=1, k=1e6, shift=0.5)
    assert [steep.at(place) for place in (0.0, 0.5, 1.0)] == [1.0, 0.5, 0.0]


def test_steps_change_where_they_say():
    schedule = StepsSchedule(values=(0.1, 0.2, 0.3), at_progress=(0.25, 0.75))
    assert [schedule.at(place) for place in (0, 0.24, 0.25, 0.74, 0.75, 1)] == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3]


number = st.floats(0, 1)
any_schedule = st.one_of(
    st.builds(LinearSchedule, start=number, end=number),
    st.builds(CosineSchedule, start=number, end=number),
    st.builds(SigmoidSchedule, A=st.floats(-1, 1), B=number, k=st.floats(0.01, 100), shift=number),
    st.lists(number, min_size=1, max_size=4).map(
        lambda values: StepsSchedule(
            values=tuple(values), at_progress=tuple(np.linspace(0, 1, len(values) + 1)[1:-1])
        )
    ),
)


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(schedule=any_schedule, progress=number)
def test_every_value_is_within_the_bounds(schedule, progress):
    low, high = schedule.bounds()
    assert low - 1e-12 <= schedule.at(progress) <= high + 1e-12
    assert value_at(schedule, progress) == schedule.at(progress)


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(schedule=any_schedule)
def test_a_rate_takes_a_schedule_exactly_if_it_stays_a_probability(schedule):
    low, high = schedule.bounds()
    plain = {"rate": schedule.model_dump(mode="json")}
    if low < 0 or high > 1:
        with pytest.raises(ConfigError, match="this schedule runs from"):
            Settings.from_dict(plain)
    else:
        assert Settings.from_dict(plain).rate == schedule


def test_settings_with_schedules_survive_being_written_down(tmp_path):
    config = Settings(rate=CURRAB, weights={"CDR3": LinearSchedule(start=1, end=4), "FR1": 0.5})
    (tmp_path / "settings.yaml").write_text(config.dump())
    assert Settings.load(tmp_path / "settings.yaml") == config


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.5, "expected a number from 0 to 1"),
        (float("nan"), "expected a number from 0 to 1"),
        ("often", "expected a number from 0 to 1, or a schedule with 'kind'"),
        ({"kind": "linaer", "start": 0, "end": 1}, "unknown schedule 'linaer'; did you mean 'linear'"),
        ({"start": 0, "end": 1}, "unknown schedule 'None'"),
        ({"kind": "linear", "start": 0, "end": 2}, "runs from 0 to 2; expected values from 0 to 1"),
        ({"kind": "steps", "values": [0.1, 0.2]}, "2 values need 1 places in at_progress, got 0"),
        ({"kind": "steps", "values": [0, 0, 0], "at_progress": [0.5, 0.2]}, "must ascend"),
        ({"kind": "cosine", "start": 0}, "end"),
    ],
    ids=str,
)
def test_a_mistake_is_named(value, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Settings.from_dict({"rate": value})
    assert "rate" in str(caught.value)


def test_schedules_are_found_by_their_keys():
    config = Settings(rate=CURRAB, weights={"CDR3": LinearSchedule(start=1, end=4), "FR1": 0.5})
    found = dict(schedules_in(config, "masking"))
    assert found == {"masking.rate": CURRAB, "masking.weights.CDR3": LinearSchedule(start=1, end=4)}
    assert all(isinstance(each, Schedule) for each in found.values())
