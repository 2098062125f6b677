"""Every shipped task card is valid and says what a reader needs to judge its numbers."""

import pytest

from protlm.errors import ConfigError
from protlm.evaluation.cards import BASELINES, BySource, ShuffledPairs, TaskCard, load_card, shipped_cards

CARDS = shipped_cards()


def test_the_three_cards_are_there():
    assert {"native-pairs-sabdab", "specificity-cov-rbd", "specificity-cov-cross-source"} <= set(CARDS)


@pytest.mark.parametrize("name", CARDS)
def test_a_card_is_complete(name):
    card = load_card(name)
    assert card.name == name
    assert len(card.about) > 100
    for source in card.data:
        assert source.licence
        assert source.citation
        assert "@" in source.origin  # a repository at a commit, or an archive and its version
        assert len(source.sha256 or "") == 64 or card.availability == "download"
    assert "majority" in card.baselines
    assert set(card.baselines) <= set(BASELINES)
    assert len(card.baselines) > 1
    assert card.primary in card.shown
    assert all(each.reference for each in card.published)
    assert TaskCard.from_dict(card.model_dump(mode="json")) == card


@pytest.mark.parametrize("name", CARDS)
def test_baselines_that_the_level_calls_for_are_there(name):
    card = load_card(name)
    if card.level == "residue":
        assert {"residue", "window"} <= set(card.baselines)
    elif isinstance(card.target, ShuffledPairs | BySource) or name.startswith("specificity"):
        assert {"v_gene", "ends"} <= set(card.baselines)
    else:
        assert {"composition", "nearest"} <= set(card.baselines)
    # a degree is how often a protein binds; a change of energy has none
    if not card.is_ordered and card.target.kind != "value":
        assert "degree" in card.baselines


def test_the_tasks_of_the_issue_are_there():
    asked = "localisation localisation-membrane remote-homology-scop remote-homology-cath ppi-yeast-guo"
    asked += " tcr-epitope-unseen-tcr tcr-epitope-strict secondary-structure secondary-structure-8 paratope"
    asked += " polyreactivity affinity-trastuzumab affinity-emibetuzumab affinity-emibetuzumab-binders"
    asked += " developability-hic conservation gb1-four-site avgfp grb2-binding grb2-abundance solubility"
    asked += " ppi-bernett ppi-string"
    assert set(asked.split()) <= set(CARDS)


def test_the_published_numbers_are_those_of_the_notebooks():
    by_data = {
        (each.model, each.data[0]): each.metrics for each in load_card("native-pairs-sabdab").published
    }
    assert by_data["preferential-250k", "C"]["accuracy"] == 0.6569
    assert by_data["uniform-350k", "D"]["mcc"] == 0.2248
    cross = load_card("specificity-cov-cross-source").published
    assert [each.metrics["auroc"] for each in cross] == [0.8167, 0.8131, 0.8149]


def test_the_confounded_card_says_so():
    card = load_card("specificity-cov-cross-source")
    assert isinstance(card.target, BySource)
    assert "confounding" in card.title
    assert card.crop == (2, 126)


def test_an_unknown_card_names_the_known_ones():
    with pytest.raises(ConfigError, match="did you mean 'native-pairs-sabdab'"):
        load_card("native-pairs")


def test_mistakes_in_a_card_are_named():
    values = load_card("native-pairs-sabdab").model_dump(mode="json")
    for change, message in (
        ({"metrics": ["aurok"]}, "did you mean 'auroc'"),
        ({"baselines": ["v_genes"]}, "did you mean 'v_gene'"),
        ({"splits": [{"name": "a", "by": ["clonotype"]}]}, "must keep a 'chain' in one fold"),
        ({"target": {"kind": "source", "positive": ["nowhere"], "negative": []}}, "not among the data"),
        ({"data": [values["data"][0]] * 2}, "two data sources have one name"),
        ({"colour": "red"}, "unknown key"),
    ):
        with pytest.raises(ConfigError, match=message):
            TaskCard.from_dict(values | change)
    assert isinstance(TaskCard.from_dict(values).target, ShuffledPairs)
