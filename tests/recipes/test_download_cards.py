"""Cards whose data are not here, on made-up files in the format of the public ones."""

import io
import tarfile

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from protlm.cli.main import app
from protlm.evaluation.cards import load_card
from protlm.evaluation.task_data import build_task
from protlm.evaluation.task_files import find_files
from protlm.models.architectures import EsmArchitecture
from protlm.recipes.evaluate_task import evaluate_tasks

LETTERS = list("ACDEFGHIKLMNPQRSTVWY")
RESIDUES = {"A": "ALA", "G": "GLY", "K": "LYS", "L": "LEU", "S": "SER", "V": "VAL"}


def proteins(count, seed, low=30, high=60):
    random = np.random.default_rng(seed)
    return ["".join(random.choice(LETTERS, random.integers(low, high))) for _ in range(count)]


def build(name, folder):
    card = load_card(name)
    return build_task(card, find_files(card, [str(folder)]), seeds=1)


def solubility(folder):
    (folder / "solubility").mkdir()
    for number, side in enumerate(("train", "valid", "test")):
        text = "".join(f">\t{n % 2}\n{each}\n" for n, each in enumerate(proteins(30, number)))
        (folder / "solubility" / f"deepsol_{side}.fasta").write_text(text)


def test_solubility_in_the_format_of_deepsol(tmp_path):
    solubility(tmp_path)
    data = build("solubility", tmp_path)
    trial = data.trials[0]
    assert (len(data.records), int(trial.tested.sum()), int(trial.labels.sum())) == (90, 30, 45)
    assert trial.rounds.validated == {2: (1,)}


def test_the_gold_standard_of_bernett(tmp_path):
    folder = tmp_path / "ppi_bernett"
    folder.mkdir()
    sequences = proteins(30, 5)
    (folder / "human_swissprot_oneliner.fasta").write_text(
        "".join(f">P{n}\n{s}\n" for n, s in enumerate(sequences))
    )
    for block, start in ((1, 0), (0, 10), (2, 20)):
        pairs = [(a, b) for a in range(start, start + 10) for b in range(start, a)]
        for sign, own in (("pos", pairs[::2]), ("neg", pairs[1::2])):
            (folder / f"Intra{block}_{sign}_rr.txt").write_text("".join(f"P{a} P{b}\n" for a, b in own))
    data = build("ppi-bernett", tmp_path)
    trial = data.trials[0]
    assert len(data.records) == 3 * 45
    assert int(trial.tested.sum()) == 45
    assert data.reports["official"].shared_chains == 0
    first = data.records[0]
    assert [chain.residues for chain in first.chains] == [sequences[1], sequences[0]]
    assert first.labels["label"] == "1"


def test_pairs_of_string(tmp_path):
    (tmp_path / "ppi_string").mkdir()
    sequences = proteins(40, 6, 50, 80)
    pairs = [(a, b) for a in range(40) for b in range(a) if (a + b) % 5 == 0]
    lines = [f"{n}\t{n % 2}\t{sequences[a]}\t{sequences[b]}" for n, (a, b) in enumerate(pairs)]
    (tmp_path / "ppi_string" / "pairs.tsv").write_text("\n".join(lines) + "\n")
    data = build("ppi-string", tmp_path)
    assert data.reports["apart"].shared_chains == 0
    assert any("straddle" in line for line in data.lines)


def pdb(chains):
    lines, serial = [], 0
    for name, letters in chains.items():
        for number, letter in enumerate(letters, 30):  # author numbers begin at 30
            for place, atom in enumerate(("N", "CA", "C", "O")):
                serial += 1
                x = 3.8 * number + 0.8 * place
                lines.append(
                    f"ATOM  {serial:5d}  {atom:<3} {RESIDUES[letter]} {name}{number:4d}    "
                    f"{x:8.3f}{ord(name):8.3f}{0.0:8.3f}{1.0:6.2f}{0.0:6.2f}          {atom[0]:>2}"
                )
        lines.append("TER")
    return ("\n".join([*lines, "END"]) + "\n").encode()


def test_mutated_complexes_of_skempi(tmp_path):
    folder = tmp_path / "skempi"
    folder.mkdir()
    header = "#Pdb;Mutation(s)_PDB;Mutation(s)_cleaned;Hold_out_proteins;"
    header += "Affinity_mut_parsed;Affinity_wt_parsed;Temperature"
    rows = [header]
    with tarfile.open(folder / "SKEMPI2_PDBs.tgz", "w:gz") as opened:
        for number in range(6):
            entry = f"{number + 1}AAA"
            content = pdb({"A": "AGKLS" * (number + 2), "B": "VVLKS" * 3})
            info = tarfile.TarInfo(f"PDBs/{entry}.pdb")
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
            rows.append(f"{entry}_A_B;GA31K;GA2K;{entry}_A_B;1e-7;1e-9;298(assumed)")
            rows.append(f"{entry}_A_B;GA31K,LB32A;GA2K,LB3A;{entry}_A_B;1e-6;1e-9;310")
    rows += ["1AAA_A_B;WA31K;WA2K;1AAA_A_B;1e-7;1e-9;298", "1AAA_A_B;GA31A;GA2A;1AAA_A_B;;1e-9;298"]
    rows += ["9ZZZ_A_B;GA31K;GA2K;9ZZZ_A_B;1e-7;1e-9;298"]
    (folder / "skempi_v2.csv").write_text("\n".join(rows) + "\n")
    data = build("skempi", tmp_path)
    first = data.records[0]
    assert [chain.residues for chain in first.chains] == ["AKKLSAGKLS", "VVLKSVVLKSVVLKS"]
    assert data.records[1].chains[1].residues == "VVAKSVVLKSVVLKS"
    expected = 1.987204e-3 * 298 * np.log(100), 1.987204e-3 * 310 * np.log(1000)
    np.testing.assert_allclose(data.trials[0].labels[:2], expected)
    assert data.counts == {
        "skempi: the wild-type residue is another one in the structure": 1,
        "skempi: an affinity is missing": 1,
        "skempi: the structure of its complex is not there": 1,
    }


def test_several_cards_in_one_run_are_taken_up_after_an_interruption(tmp_path, monkeypatch):
    monkeypatch.setenv("PROTLM_CACHE", str(tmp_path / "cache"))
    solubility(tmp_path)
    model = tmp_path / "tiny"
    EsmArchitecture.Config(num_layers=1, hidden_size=16, num_heads=2).build(seed=0).save(model)
    own = load_card("solubility").model_dump(mode="json")
    other = load_card("solubility").from_dict(own | {"name": "other", "max_records": 20})
    options = {"device": "cpu", "num_draws": 20, "force": True}
    said = []
    cards = [load_card("solubility"), other]
    run = evaluate_tasks(cards, [str(model)], [tmp_path], tmp_path / "run", say=said.append, **options)
    verdicts = pl.read_parquet(run.table_path("verdicts"))
    assert verdicts["task"].to_list() == ["solubility", "other"]
    assert set(verdicts["verdict"]) <= {"above", "not clear", "below", "undefined"}
    assert list(run.read_json("data_manifest.json")["tasks"]) == ["solubility", "other"]
    metrics = pl.read_parquet(run.table_path("metrics"))
    assert "tiny, random weights" in set(metrics["method"])
    (run.path / "DONE").unlink()
    again = []
    evaluate_tasks(
        cards, [str(model)], [tmp_path], tmp_path / "run", say=again.append, **options | {"force": False}
    )
    assert sum("before the interruption" in line for line in again) == 2
    assert pl.read_parquet(run.table_path("metrics")).equals(metrics)


def test_the_list_says_what_is_here(tmp_path):
    solubility(tmp_path)
    lines = (
        CliRunner().invoke(app, ["evaluate", "tasks", "--list", "--data", str(tmp_path)]).output.splitlines()
    )
    state = {line.split()[0]: line for line in lines if line.strip()}
    assert " here" in state["solubility"]
    assert " missing" in state["skempi"]
    plain = CliRunner().invoke(app, ["evaluate", "tasks", "--list"]).output
    assert "protlm fetch skempi" in plain
    missing = CliRunner().invoke(app, ["evaluate", "tasks", "--task", "skempi", "--out", str(tmp_path / "x")])
    assert missing.exit_code == 2


@pytest.mark.real_data
def test_energies_of_skempi_are_those_of_the_copy(shared_data):
    data = build("skempi-five-complexes", shared_data)
    stated = [record.labels.get("ddG_kcal") for record in data.records]
    shown = [(float(own), label) for own, label in zip(stated, data.trials[0].labels, strict=True) if own]
    ours, theirs = np.array(shown).T
    assert len(shown) > 80
    assert np.median(np.abs(ours - theirs)) < 1e-3  # rows that were repeated are averaged here
