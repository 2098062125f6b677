"""Clusters: by MMseqs2 against identities that are planted, and read from a file."""

import numpy as np
import pytest

from fixtures.builders import random_residues
from protlm.data.clusters import cluster_sequences, read_clusters
from protlm.data.splits import cluster_groups
from protlm.errors import DataError


def mutated(random, residues, share):
    letters = list(residues)
    for place in random.choice(len(letters), round(share * len(letters)), replace=False):
        letters[place] = random_residues(random, 1)
    return "".join(letters)


@pytest.fixture(scope="module")
def families():
    """Three founders of 150 residues, each with two copies that keep about 90 % of it."""
    random = np.random.default_rng(0)
    founders = [random_residues(random, 150) for _ in range(3)]
    return [copy for each in founders for copy in (each, *(mutated(random, each, 0.1) for _ in range(2)))]


def test_planted_families_are_found_and_what_is_unlike_stays_apart(families, tmp_path):
    """Half a protein covers half of the whole, and peptides are too short for k-mers."""
    path = tmp_path / "x.fasta"
    others = [families[0][:75], "GILGFVFTL", "NLVPMVATV"]
    path.write_text("".join(f">p{number}\n{each}\n" for number, each in enumerate([*families, *others])))
    found = cluster_sequences(path, identity=0.5, coverage=0.8)
    assert found.dtype == np.int64
    for start in range(0, 9, 3):
        assert len(set(found[start : start + 3])) == 1
        assert found[start] in range(start, start + 3)
    assert len(np.unique(found)) == 6
    assert found[9:].tolist() == [9, 10, 11]


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Stand in for mmseqs by a shell script."""

    def program(script):
        path = tmp_path / "mmseqs"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("MMSEQS2_PATH", str(path))

    return program


def test_what_is_asked_of_the_program_and_what_it_leaves_out(program, tmp_path):
    keeps = f'echo "$@" > {tmp_path}/asked; cp "$2" {tmp_path}/fasta'
    program(keeps + """; printf '1\\t1\\n1\\t0\\n' > "$3"_cluster.tsv""")
    found = cluster_sequences(["MKT" * 9, "MKS" * 9, "GG" * 12], identity=0.3, coverage=0.7, threads=2)
    assert found.tolist() == [1, 1, 2]
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("easy-cluster ")
    assert asked.rstrip().endswith("--min-seq-id 0.3 -c 0.7 --cov-mode 0 --threads 2")
    assert (tmp_path / "fasta").read_text() == f">0\n{'MKT' * 9}\n>1\n{'MKS' * 9}\n>2\n{'GG' * 12}\n"
    assert cluster_sequences(["MKT"], identity=0.3).tolist() == [0]


def test_a_program_that_fails_says_why(program, tmp_path, monkeypatch):
    program("echo 'Cannot allocate' >&2; exit 3")
    with pytest.raises(DataError, match="MMseqs2 stopped with status 3: Cannot allocate"):
        cluster_sequences(["MKT" * 9, "MKS" * 9], identity=0.5)
    monkeypatch.setenv("MMSEQS2_PATH", str(tmp_path / "none"))
    with pytest.raises(DataError, match="which is no file"):
        cluster_sequences(["MKT" * 9, "MKS" * 9], identity=0.5)


@pytest.mark.parametrize("given", [{"identity": 0.0}, {"identity": 1.5}, {"identity": 0.5, "coverage": -1}])
def test_what_is_no_share_is_refused(given):
    with pytest.raises(DataError, match="is no share"):
        cluster_sequences(["MKT", "MKS"], **given)


def test_a_file_of_clusters(tmp_path):
    path = tmp_path / "clusters.tsv"
    path.write_text("a\ta\na\tb\n\nc\tc\n")
    assert list(read_clusters(path)) == [("a", "a"), ("a", "b"), ("c", "c")]
    path.write_text("a\ta\nb\n")
    with pytest.raises(DataError, match="line 2: 1 values, expected a representative and a member"):
        list(read_clusters(path))


def test_records_that_share_a_cluster_are_one_group():
    """Three records of two, one and two chains: the first and last share cluster 7."""
    groups = cluster_groups(np.array([4, 7, 5, 7, 9]), np.array([2, 1, 2]), names=["x", "y", "z"])
    assert groups.codes[0] == groups.codes[2] != groups.codes[1]
    assert groups.names == ("x", "y")
