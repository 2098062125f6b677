"""prepare with links: what comes out of each kind of file, whatever its order, and what is refused."""

import gzip
import json
from itertools import combinations

import numpy as np
import pytest
from typer.testing import CliRunner

from fixtures.builders import random_residues
from protlm.cli.main import app
from protlm.data.corpus import Corpus, CorpusWriter, write_corpus
from protlm.data.readers import InputPolicy
from protlm.data.readers.links import LinkColumns
from protlm.errors import ConfigError, DataError
from protlm.recipes.prepare_negatives import prepare_negatives
from protlm.recipes.prepare_pairs import PairSettings, prepare_pairs
from protlm.types.record import Chain, Record, Role

NAMES = [f"4932.Y{number:02d}" for number in range(30)] + [f"9606.H{number:02d}" for number in range(30)]


@pytest.fixture(scope="module")
def residues():
    random = np.random.default_rng(0)
    return {name: random_residues(random, int(random.integers(20, 60))) for name in NAMES}


@pytest.fixture(scope="module")
def links():
    """STRING-like: inside species, hubs, both orders, all scores."""
    random = np.random.default_rng(1)
    rows = []
    for first in (0, 30):
        for _ in range(130):
            a, b = (random.random(2) ** 2 * 30).astype(int)
            if a != b:
                score = int(random.integers(150, 1000))
                rows += [
                    (NAMES[first + a], NAMES[first + b], score),
                    (NAMES[first + b], NAMES[first + a], score),
                ]
    return rows


@pytest.fixture
def files(tmp_path, residues, links):
    """Write links and sequences, in the order given, and prepare them."""

    def files(rows=links, *, names=NAMES, out="corpus", suffix="", header=True, **given):
        fasta, text = tmp_path / "proteins.fasta", tmp_path / f"links{suffix or '.txt'}"
        fasta.write_text("".join(f">{name} of something\n{residues[name]}\n" for name in names))
        lines = ["protein1 protein2 combined_score"] if header else []
        content = "\n".join([*lines, *(" ".join(map(str, row)) for row in rows)]) + "\n"
        text.write_bytes(gzip.compress(content.encode()) if suffix.endswith(".gz") else content.encode())
        settings = PairSettings(**given.pop("settings", {}))
        policy = InputPolicy(invalid=given.pop("invalid", "drop"))
        return prepare_pairs(
            text,
            tmp_path / out,
            sequences=[str(fasta)],
            settings=settings,
            policy=policy,
            force=True,
            **given,
        )

    return files


def contents(corpus):
    """Everything that is in the records of a corpus, and in what order, less the order of its chains."""
    return [
        (each.id, tuple(chain.residues for chain in each.chains), dict(each.labels), each.group)
        for each in (corpus.record(row) for row in range(len(corpus)))
    ]


def tables(corpus):
    names = ["", *corpus.manifest["subsets"]]
    found = {name: Corpus(f"{corpus.path}:{name}" if name else corpus.path) for name in names}
    return {name: (contents(each), each.keys.tolist()) for name, each in found.items()}


def best(rows, least=700):
    scores = {}
    for a, b, score in rows:
        pair = frozenset((a, b))
        scores[pair] = max(score, scores.get(pair, 0))
    return {pair: score for pair, score in scores.items() if score >= least}


@pytest.mark.parametrize("suffix", [".txt", ".v12.0.txt.gz"])
def test_string_links_of_high_confidence(files, links, residues, suffix):
    prepared = files(suffix=suffix)
    found = {frozenset(record[0].split("+")): record for record in contents(prepared.corpus)}
    expected = best(links)
    assert found.keys() == expected.keys()
    for pair, (name, chains, labels, group) in found.items():
        a, b = name.split("+")
        assert chains == (residues[a], residues[b])
        assert labels == {"binds": 1, "score": expected[pair]}
        assert group == f"{a}|{b}"
    assert prepared.corpus.manifest["num_chains"] == len({name for pair in expected for name in pair})
    assert prepared.corpus.manifest["pairs"]["min_score"] == 700
    lines = "\n".join(prepared.lines())
    assert "links: STRING links" in lines
    assert f"{len(best(links, 0)) - len(expected)} links left out: score below 700" in lines
    single = contents(Corpus(f"{prepared.corpus.path}:single"))
    assert {each[0]: each[1][0] for each in single} == {
        name: residues[name] for pair in expected for name in pair
    }


@pytest.mark.parametrize("negatives", ["uniform", "same-species", "degree"])
def test_the_order_of_the_input_changes_nothing(files, links, negatives):
    settings = {"negatives": negatives, "holdout": 0.4, "min_score": 300, "positive_fraction": 0.4}
    once = files(settings=settings)
    random = np.random.default_rng(2)
    turned = [(b, a, score) if random.random() < 0.5 else (a, b, score) for a, b, score in links]
    rows = [turned[place] for place in random.permutation(len(turned))]
    again = files(rows, names=NAMES[::-1], out="again", settings=settings)
    assert tables(once.corpus) == tables(again.corpus)
    other = files(out="other", settings={**settings, "seed": 1})
    assert tables(once.corpus) != tables(other.corpus)


@pytest.mark.parametrize("negatives", ["uniform", "same-species", "degree"])
def test_parts_share_no_protein_and_negatives_no_link_of_any_score(files, links, negatives):
    settings = {"negatives": negatives, "holdout": 0.4, "min_score": 300, "positive_fraction": 0.6}
    corpus = files(settings=settings).corpus
    found = {name: [record[0] for record in records] for name, (records, _) in tables(corpus).items()}
    ends = {name: {end for pair in pairs for end in pair.split("+")} for name, pairs in found.items()}
    assert not ends["train"] & ends["holdout"]
    assert (
        sorted(found[""])
        == sorted(found["train"] + found["holdout"])
        == sorted(found["binding"] + found["random"])
    )
    for name in ("train", "holdout"):
        binding, random = found[f"{name}-binding"], found[f"{name}-random"]
        assert binding
        assert len(random) == round(len(binding) * 0.4 / 0.6)
        assert sorted(found[name]) == sorted(binding + random)
        assert ends[f"{name}-random"] <= ends[f"{name}-binding"]
        assert sorted(found[f"{name}-single"]) == sorted(ends[name])
    known = best(links, 0).keys()
    drawn = [frozenset(pair.split("+")) for pair in found["random"]]
    assert not set(drawn) & known
    assert len(set(drawn)) == len(drawn)
    assert all(len(pair) == 2 for pair in drawn)
    if negatives == "same-species":
        assert all(len({name[:4] for name in pair}) == 1 for pair in drawn)
    labels = {record[0]: record[2] for record in tables(corpus)[""][0]}
    assert {labels[name]["binds"] for name in found["random"]} == {0}


def test_degrees_match_and_that_is_written_down(files, links):
    corpus = files(settings={"negatives": "degree", "min_score": 500}).corpus
    counts = []
    for name in ("binding", "random"):
        ends = [end for record in tables(corpus)[name][0] for end in record[0].split("+")]
        counts.append([ends.count(each) for each in NAMES])
    counts = np.array(counts)[:, np.sum(counts, axis=0) > 0]
    expected = np.corrcoef(counts)[0, 1]
    assert corpus.manifest["pairs"]["all"]["degree_correlation"] == pytest.approx(expected, abs=1e-4)


def test_one_link_per_pair_of_clusters_of_a_file(files, tmp_path, links):
    clusters = tmp_path / "clusters.tsv"
    rows = [(NAMES[number // 5 * 5], NAMES[number]) for number in range(60) if number != 59]
    clusters.write_text("".join(f"{a}\t{b}\n" for a, b in rows))
    cluster_of = {member: representative for representative, member in rows} | {NAMES[59]: NAMES[59]}
    settings = {"clusters": clusters, "one_per_cluster_pair": True, "min_score": 200}
    prepared = files(settings=settings)
    scores = {}
    for pair, score in best(links, 200).items():
        cell = frozenset(cluster_of[name] for name in pair)
        scores[cell] = max(score, scores.get(cell, 0))
    found = contents(prepared.corpus)
    assert {
        frozenset(cluster_of[name] for name in record[0].split("+")): record[2]["score"] for record in found
    } == scores
    assert len(found) == len(scores)
    for record in found:
        groups = [cluster_of[name] for name in record[0].split("+")]
        assert [cluster_of[name] for name in record[3].split("|")] == groups
    held = files(settings={**settings, "holdout": 0.4, "one_per_cluster_pair": False}, out="held").corpus
    parts = [
        {cluster_of[end] for record in tables(held)[name][0] for end in record[0].split("+")}
        for name in ("train", "holdout")
    ]
    assert parts[0]
    assert parts[1]
    assert not parts[0] & parts[1]


def test_a_protein_in_two_clusters_is_refused(files, tmp_path):
    clusters = tmp_path / "clusters.tsv"
    clusters.write_text(f"{NAMES[0]}\t{NAMES[1]}\n{NAMES[2]}\t{NAMES[1]}\n")
    with pytest.raises(DataError, match="is in 2 clusters"):
        files(settings={"clusters": clusters, "min_score": 200})


def test_species_are_kept_by_prefix(files, links):
    corpus = files(species=["9606"]).corpus
    kept = {pair for pair in best(links) if all(name.startswith("9606.") for name in pair)}
    assert {frozenset(record[0].split("+")) for record in contents(corpus)} == kept
    with pytest.raises(
        DataError, match=r"--species 10090: no id in proteins.fasta begins with '10090.'.*4932"
    ):
        files(species=["10090"])


def test_bad_rows_are_counted_with_examples_or_stop(files, links):
    rows = [
        *links,
        ("4932.Y00", "4932.NONE", 900),
        ("4932.Y00", "4932.Y00", 900),
        ("4932.Y01", "4932.Y02", "x"),
    ]
    prepared = files(rows)
    lines = "\n".join(prepared.lines())
    row = len(links) + 1
    assert (
        f"1 rows left out: an id without a sequence (first: links.txt, row {row}, '4932.Y00' and '4932.NONE')"
        in lines
    )
    assert f"1 rows left out: a protein linked with itself (first: links.txt, row {row + 1}" in lines
    assert "1 rows left out: score 'combined_score' is no number" in lines
    assert prepared.corpus.manifest["dropped"]["rows: an id without a sequence"] == 1
    assert contents(prepared.corpus) == contents(files(out="clean").corpus)
    with pytest.raises(DataError, match=f"links.txt, row {row}, .*an id without a sequence"):
        files(rows, invalid="error")


def test_a_truncated_file_is_an_error_and_leaves_nothing(files, tmp_path, links):
    files(links * 30, suffix=".gz")
    path = tmp_path / "links.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"links\.gz: the compressed file ends too early"):
        prepare_pairs(path, tmp_path / "cut", sequences=[str(tmp_path / "proteins.fasta")])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["corpus", "links.gz", "proteins.fasta"]


def table(tmp_path, text, name="links.tsv"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "p.fasta"
    path.write_text(">a\nMKTAYIAKQR\n>b\nGGSWTRRE\n>c\nLLPEEDK\n>d\nQQRSTVW\n")
    return str(path)


@pytest.mark.parametrize(
    "text",
    [
        "protein_a\tprotein_b\tlabel\na\tb\t1\nc\td\t0\n",
        "a\tb\t1\nc\td\t0\n",  # without a header
        "label\tx\ty\n1\ta\tb\n0.0\tc\td\n",
    ],
)
def test_two_ids_and_a_label(tmp_path, fasta, text):
    columns = LinkColumns(a="x", b="y") if text.startswith("label") else None
    prepared = prepare_pairs(table(tmp_path, text), tmp_path / "out", sequences=[fasta], columns=columns)
    found = {record[0]: record[2]["binds"] for record in contents(prepared.corpus)}
    assert {frozenset(name.split("+")): binds for name, binds in found.items()} == {
        frozenset("ab"): 1,
        frozenset("cd"): 0,
    }
    assert prepared.corpus.manifest["pairs"]["negatives"]["sampler"] == "none"


def test_lists_by_spaces_and_third_columns(tmp_path, fasta):
    for number, (text, label) in enumerate([("a b\nc d\n", 1), ("a\tb\t0.9\nc\td\t0.2\n", 1)]):
        made = prepare_pairs(table(tmp_path, text), tmp_path / f"{number}", sequences=[fasta])
        assert {record[2]["binds"] for record in contents(made.corpus)} == {label}
        assert len(made.corpus) == 2
    made = prepare_pairs(
        table(tmp_path, text), tmp_path / "least", sequences=[fasta], settings=PairSettings(min_score=0.5)
    )
    assert [record[2] for record in contents(made.corpus)] == [{"binds": 1, "score": pytest.approx(0.9)}]
    with pytest.raises(DataError, match="the third column is neither a label nor a score"):
        prepare_pairs(table(tmp_path, "a\tb\tyes\nc\td\tno\n"), tmp_path / "x", sequences=[fasta])


A, B, C = "MKTAYIAKQRQISFVKSHFS", "GGSWTRREEDVLNNPAAAKL", "LLPEEDKQWERTYIPASDFG"


@pytest.mark.parametrize(
    "text",
    [
        f"7\tx\ty\t1\t{A}\t{B}\n8\tx\tz\t0\t{A}\t{C}\n",  # the paper's pairwise-interaction
        f"x\ty\t1\t{A}\t{B}\nx\tz\t0\t{A}\t{C}\n",  # its pairwise-string, last record included
        f"sequence_a\tsequence_b\tbinds\n{A}\t{B}\t1\n{A.lower()}\t{C}*\t0\n",
    ],
)
def test_two_sequences(tmp_path, text):
    prepared = prepare_pairs(table(tmp_path, text), tmp_path / "out")
    found = {frozenset(record[1]): record[2]["binds"] for record in contents(prepared.corpus)}
    assert found == {frozenset((A, B)): 1, frozenset((A, C)): 0}
    assert prepared.corpus.manifest["num_chains"] == 3


def test_receptors_stand_first_and_negatives_have_one_of_each(tmp_path):
    random = np.random.default_rng(3)
    receptors = ["CAS" + random_residues(random, 9) + "F" for _ in range(40)]
    epitopes = [random_residues(random, 9) for _ in range(6)]
    rows = [(epitopes[number % 6], receptor) for number, receptor in enumerate(receptors)]
    text = "epitope\tcdr3b\n" + "".join(f"{epitope}\t{receptor}\n" for epitope, receptor in rows)
    prepared = prepare_pairs(
        table(tmp_path, text),
        tmp_path / "out",
        settings=PairSettings(negatives="degree", positive_fraction=0.4),
    )
    found = contents(prepared.corpus)
    assert len(found) == 100
    assert all(chains[0] in receptors and chains[1] in epitopes for _, chains, _, _ in found)
    assert all(name == "+".join(chains) for name, chains, _, _ in found)  # short ones are named by themselves
    drawn = {chains[::-1] for _, chains, labels, _ in found if not labels["binds"]}
    assert len(drawn) == 60
    assert not drawn & set(rows)


def test_columns_with_ids_of_their_own(tmp_path):
    links = table(tmp_path, "epitope_id\ttcr_id\tlabel\n1\t1\t1\n2\t1\t0\n1\t2\t1\n")
    table(tmp_path, f"id\ttcr_full\n1\t{A}\n2\t{B}\n", "tcrs.tsv")
    table(tmp_path, "epitope_id\tepitope\n1\tGILGFVFTL\n2\tNLVPMVATV\n", "epitopes.tsv")
    named = [f"tcr_id={tmp_path / 'tcrs.tsv'}", f"epitope_id={tmp_path / 'epitopes.tsv'}"]
    plain = [text.split("=")[1] for text in named]
    found = []
    for number, sequences in enumerate([named, plain, plain[::-1]]):
        made = prepare_pairs(links, tmp_path / f"{number}", sequences=sequences)
        found.append(contents(made.corpus))
    assert found[0] == found[1] == found[2]
    assert {(chains, labels["binds"]) for _, chains, labels, _ in found[0]} == {
        ((A, "GILGFVFTL"), 1),
        ((A, "NLVPMVATV"), 0),
        ((B, "GILGFVFTL"), 1),
    }
    assert {record[0] for record in found[0]} >= {"tcr_id:1+epitope_id:1"}


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        ("protein1 protein2 experimental\na b 900\n", {}, "there is no column 'combined_score'"),
        ("protein_a\tprotein_b\na\tb\n", {"columns": LinkColumns(score="scor")}, "there is no column 'scor'"),
        (
            "protein_a\tprotein_b\tscore\na\tb\t1\n",
            {"columns": LinkColumns(a="proteina")},
            "did you mean 'protein_a'",
        ),
        (
            "protein_a\tprotein_b\na\tb\n",
            {"settings": PairSettings(min_score=3)},
            "has no column with a score",
        ),
        (
            "protein_a\tprotein_b\tlabel\na\tb\tyes\n",
            {},
            "no pair is left; 1 rows: label 'label' is not 0 or 1",
        ),
        ("protein_a\tprotein_b\na\ta\n", {}, "no pair is left; 1 rows: a protein linked with itself"),
        ("protein_a\tprotein_b\n", {}, "no row under the column names"),
        ("", {}, "the file is empty"),
        ("protein_a\tprotein_b\na\tb\tc\n", {}, "Expected 2 columns, got 3"),
        ("protein_a\tother\tthing\na\tb\tc\n", {}, "cannot tell which columns hold the two ids"),
        ("protein_a\tprotein_b\na\tb\n", {"sequence_column": "aa"}, "no file of sequences has such a column"),
        (
            "protein_a\tprotein_b\na\tb\n",
            {"settings": PairSettings(negatives="same-species")},
            "ids name no species, such as",
        ),
        (f"sequence_a\tsequence_b\n{A}\t{B}\n", {}, "holds the sequences itself"),
        ("protein_a\tprotein_b\na\tb\n", {"sequences": []}, "no file gives their sequences"),
        (
            "sequence_a\tsequence_b\nMK1\tGG\n",
            {"sequences": []},
            "no pair is left; 1 sequences: letter that is no",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path, fasta, text, given, message):
    given = {"sequences": [fasta], "policy": InputPolicy(invalid="drop"), **given}
    with pytest.raises((DataError, ConfigError)) as caught:
        prepare_pairs(table(tmp_path, text), tmp_path / "out", **given)
    assert message in str(caught.value)
    assert caught.value.hint
    assert not (tmp_path / "out").exists()


def test_an_id_with_two_sequences_is_refused_and_two_ids_of_one_are_one(tmp_path, fasta):
    links = table(tmp_path, "protein_a\tprotein_b\na\tb\nc\te\na\te\n")
    table(tmp_path, ">a\nMKTAYIAKQR\n>e\nGGSWTRRE\n", "more.fasta")  # as before, and b's
    made = prepare_pairs(links, tmp_path / "out", sequences=[fasta, str(tmp_path / "more.fasta")])
    assert {frozenset(record[0].split("+")) for record in contents(made.corpus)} == {
        frozenset("ab"),
        frozenset("bc"),
    }
    assert any("1 ids have the sequence of another id" in line for line in made.lines())
    table(tmp_path, ">a\nMKTAYIAKQW\n", "more.fasta")
    with pytest.raises(DataError, match="the id 'a' is there twice with different sequences"):
        prepare_pairs(links, tmp_path / "no", sequences=[fasta, str(tmp_path / "more.fasta")])


def test_a_sequence_that_is_no_protein_takes_its_links_along(tmp_path):
    links = table(tmp_path, "protein_a\tprotein_b\na\tb\nb\tc\n")
    table(tmp_path, ">a\nMK1TAY\n>b\nGGSWTRRE\n>c\nLLPEEDK\n", "p.fasta")
    made = prepare_pairs(
        links, tmp_path / "out", sequences=[str(tmp_path / "p.fasta")], policy=InputPolicy(invalid="drop")
    )
    assert [frozenset(record[0].split("+")) for record in contents(made.corpus)] == [frozenset("bc")]
    lines = "\n".join(made.lines())
    assert "1 dropped: protein left out: letter that is no residue" in lines
    assert "1 rows left out: a protein whose sequence was left out" in lines


@pytest.fixture
def antibodies(tmp_path):
    """Pairs with roles, tracks, labels and groups, in a corpus with a split."""
    random = np.random.default_rng(5)
    with CorpusWriter(tmp_path / "antibodies") as writer:
        for number in range(40):
            chains = tuple(
                Chain(
                    residues, role=role, tracks={"region": np.full(len(residues), number + 1, dtype=np.uint8)}
                )
                for role, residues in (
                    (Role.HEAVY, random_residues(random, 30)),
                    (Role.LIGHT, random_residues(random, 25)),
                )
            )
            record = Record(f"r{number}", chains, labels={"donor": number % 3}, group=f"clone{number}")
            writer.add(record, subset="holdout" if number % 4 == 0 else "train")
        writer.add(Record("alone", (Chain("MKT", role=Role.HEAVY),)), subset="train")
        return writer.close()


def test_negatives_for_a_corpus_keep_roles_tracks_and_its_split(antibodies, tmp_path):
    settings = PairSettings(negatives="degree", positive_fraction=0.25)
    made = prepare_negatives(antibodies.path, tmp_path / "out", settings=settings)
    corpus = made.corpus
    records = {
        name: [each.record(row) for row in range(len(each))]
        for name in corpus.manifest["subsets"]
        for each in [Corpus(f"{corpus.path}:{name}")]
    }
    assert {name: len(found) for name, found in records.items()} == {
        "train": 120,
        "holdout": 40,
        "binding": 40,
        "random": 120,
        "train-binding": 30,
        "train-random": 90,
        "holdout-binding": 10,
        "holdout-random": 30,
        "single": 80,
        "train-single": 60,
        "holdout-single": 20,
    }
    home = {chain.residues: number for number in range(40) for chain in antibodies.record(number).chains}
    for record in records["random"]:
        heavy, light = record.chains
        assert (heavy.role, light.role) == (Role.HEAVY, Role.LIGHT)
        origins = home[heavy.residues], home[light.residues]
        assert origins[0] != origins[1]
        assert (origins[0] % 4 == 0) == (origins[1] % 4 == 0)  # of one part
        assert set(heavy.tracks["region"]) == {origins[0] + 1}
        assert set(light.tracks["region"]) == {origins[1] + 1}
        assert dict(record.labels) == {"binds": 0}
        assert record.group == f"clone{origins[0]}"
        assert record.id == f"r{origins[0]}:heavy+r{origins[1]}:light"
    natives = {record.id: record for record in records["binding"]}
    for number in range(40):
        assert natives[f"r{number}"] == antibodies.record(number)
        assert dict(natives[f"r{number}"].labels) == {"donor": number % 3, "binds": 1}
    assert made.lines()[0] == "1 records left out: not two chains"


def test_negatives_for_a_corpus_do_not_hang_on_its_order(antibodies, tmp_path):
    records = [antibodies.record(row) for row in range(40)]
    settings = PairSettings(negatives="uniform")
    made = [
        contents(
            prepare_negatives(
                write_corpus(tmp_path / name, order).path, tmp_path / f"{name}-out", settings=settings
            ).corpus
        )
        for name, order in (("once", records), ("again", records[::-1]))
    ]
    assert made[0] == made[1]


def test_a_corpus_of_links_gets_negatives_as_its_file_would(files, tmp_path):
    positives = files(settings={"min_score": 400})
    again = prepare_negatives(
        positives.corpus.path, tmp_path / "again", settings=PairSettings(negatives="degree")
    )
    found = contents(again.corpus)
    assert len(found) == 2 * len(positives.corpus)
    known = {frozenset(record[0].split("+")) for record in contents(positives.corpus)}
    drawn = {frozenset(record[0].split("+")) for record in found if not record[2]["binds"]}
    assert not drawn & known
    assert {name for pair in drawn for name in pair} <= {name for pair in known for name in pair}
    with pytest.raises(ConfigError, match="--holdout is for files of links"):
        prepare_negatives(positives.corpus.path, tmp_path / "x", settings=PairSettings(holdout=0.2))


def test_nearly_all_pairs_linked_is_said(files):
    rows = [(a, b, 900) for a, b in combinations(NAMES[:8], 2)][:-2]
    prepared = files(rows, settings={"negatives": "uniform"})
    assert prepared.corpus.manifest["pairs"]["all"]["random"] == 2
    assert any("only 2 of 26 negatives could be drawn" in line for line in prepared.lines())


def test_the_manifest_says_what_was_done(files):
    manifest = json.loads((files(settings={"negatives": "degree"}).corpus.path / "manifest.json").read_text())
    assert [each["name"] for each in manifest["inputs"]] == ["links.txt", "proteins.fasta"]
    assert all(len(each["sha256"]) == 64 for each in manifest["inputs"])
    pairs = manifest["pairs"]
    assert pairs["negatives"]["sampler"] == "degree"
    assert pairs["all"]["binding"] == pairs["all"]["random"] == manifest["num_records"] / 2
    assert pairs["proteins"] == manifest["num_chains"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"positive_fraction": 0}, "--positive-fraction 0 is not a share"),
        ({"holdout": 1.0}, "--holdout 1.0 is not a share"),
        ({"one_per_cluster_pair": True}, "needs clusters"),
    ],
)
def test_settings_that_cannot_be(files, given, message):
    with pytest.raises(ConfigError, match=message):
        files(settings=given)


def test_the_command_reads_links_and_gives_a_corpus_its_negatives(files, tmp_path):
    files(out="unused")

    def run(*given):
        return CliRunner().invoke(app, ["prepare", *map(str, given)])

    links = [tmp_path / "links.txt", "--sequences", tmp_path / "proteins.fasta", "--min-score", 300]
    once, again = tmp_path / "once", tmp_path / "again"
    assert run(*links, "--negatives", "none", "--out", once).stdout.split() == [str(once)]
    more = run(once, "--negatives", "degree", "--positive-fraction", 0.6, "--out", again)
    assert more.stdout.split() == [str(again)]
    sizes = Corpus(again).manifest["subsets"]
    assert sizes["binding"] == len(Corpus(once))
    assert sizes["random"] == round(sizes["binding"] * 0.4 / 0.6)
    wrong = run(*links, "--negatives", "degre", "--out", tmp_path / "no")
    assert isinstance(wrong.exception, ConfigError)
    assert "did you mean 'degree'?" in str(wrong.exception)
