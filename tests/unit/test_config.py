"""Configuration: every mistake at once, one parent, overrides, parts by kind."""

from typing import Annotated

import pytest
import yaml

from protlm.config import AnyConfig, BaseConfig, one_of
from protlm.errors import ConfigError
from protlm.masking import maskings
from protlm.masking.policies import RegionMasking, UniformMasking
from protlm.recipes.pretrain import PretrainConfig


class Inner(BaseConfig):
    rate: float = 0.5
    steps: int = 1


class Outer(BaseConfig):
    inner: Inner = Inner()
    masking: Annotated[AnyConfig, one_of(maskings, "uniform")] = UniformMasking.Config()
    name: str = "x"


def test_all_mistakes_are_reported_at_once_with_the_known_names():
    with pytest.raises(ConfigError) as caught:
        Outer.from_dict({"inner": {"rat": 1, "steps": "many"}, "nam": "y"}, source="my.yaml")
    message = str(caught.value)
    assert message.startswith("my.yaml: 3 problems")
    assert "inner.rat: unknown key; did you mean 'rate'? known: rate, steps (got 1)" in message
    assert "inner.steps" in message
    assert "nam: unknown key; did you mean 'name'?" in message


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown masking policy 'regoin'; did you mean 'region'"):
        Outer.from_dict({"masking": {"kind": "regoin"}})


def test_keys_of_a_part_are_checked_too():
    with pytest.raises(ConfigError, match="mean_rat") as caught:
        Outer.from_dict({"masking": {"kind": "uniform", "mean_rat": 0.1}})
    assert "masking.mean_rat" in str(caught.value)


def test_a_child_wins_over_its_parent_and_overrides_win_over_both(tmp_path):
    (tmp_path / "parent.yaml").write_text("name: parent\ninner: {rate: 0.1, steps: 5}\n")
    (tmp_path / "child.yaml").write_text("extends: parent.yaml\ninner: {rate: 0.2}\n")
    config = Outer.load(tmp_path / "child.yaml", ["inner.steps=7"])
    assert (config.name, config.inner.rate, config.inner.steps) == ("parent", 0.2, 7)


def test_another_kind_drops_the_parents_keys(tmp_path):
    (tmp_path / "parent.yaml").write_text("masking: {kind: region, region_rates: {CDR1: 0.3}}\n")
    (tmp_path / "child.yaml").write_text("extends: parent.yaml\nmasking: {kind: uniform}\n")
    assert isinstance(Outer.load(tmp_path / "child.yaml").masking, UniformMasking.Config)
    assert isinstance(
        Outer.load(tmp_path / "parent.yaml", ["masking.kind=uniform"]).masking, UniformMasking.Config
    )


def test_a_number_in_exponent_notation_is_a_number():
    assert Outer.load(None, ["inner.rate=1e-3"]).inner.rate == 0.001


@pytest.mark.parametrize("overrides", [["inner.rate"], ["=3"], ["inner=3", "inner.rate=1"]])
def test_a_wrong_override_says_what_was_expected(overrides):
    with pytest.raises(ConfigError, match="--set"):
        Outer.load(None, overrides)


def test_an_unknown_region_is_named():
    with pytest.raises(ConfigError, match=r"unknown region 'CDR4'; did you mean 'CDR[13]'"):
        Outer.from_dict({"masking": {"kind": "region", "region_rates": {"CDR4": 0.2}}})


def test_dumped_settings_load_back_the_same_with_all_keys_of_their_parts():
    config = PretrainConfig.from_dict(
        {"data": {"train": "a"}, "masking": {"kind": "region", "region_rates": {"CDR1": 0.3}}}
    )
    again = PretrainConfig.from_dict(yaml.safe_load(config.dump()))
    assert again == config
    assert isinstance(again.masking, RegionMasking.Config)
    assert again.masking.region_rates == {"CDR1": 0.3}


def test_a_missing_file_and_broken_yaml_are_plain_messages(tmp_path):
    with pytest.raises(ConfigError, match="cannot read config"):
        Outer.load(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1, 2\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        Outer.load(tmp_path / "broken.yaml")


def test_a_mapping_without_a_kind_is_of_the_default_kind():
    assert Outer.from_dict({"masking": {"mean_rate": 0.3}}).masking == UniformMasking.Config(mean_rate=0.3)


def test_a_parent_may_not_have_a_parent(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(ConfigError, match="one parent"):
        Outer.load(tmp_path / "a.yaml")
