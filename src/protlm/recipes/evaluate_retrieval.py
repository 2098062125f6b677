"""evaluate retrieval: which structure belongs to a sequence and the other way, beside what needs no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from protlm.errors import ConfigError, DataError, ModelError, did_you_mean
from protlm.evaluation.angle_matcher import ANGLES, AngleMatcher
from protlm.evaluation.retrieval import (
    CEILING,
    CHANCE,
    JudgedGallery,
    Kind,
    Matcher,
    cosine_scores,
    judge_gallery,
    similarity_table,
    space_rows,
)
from protlm.evaluation.retrieval_baselines import (
    COMPOSITIONS,
    LENGTH,
    WHOLE_LENGTH,
    CompositionMatcher,
    length_scores,
)
from protlm.evaluation.retrieval_galleries import CROPPED, DESCRIPTIONS, GALLERIES, GalleryName, build_gallery
from protlm.evaluation.retrieval_pairs import Pairs, crop_pairs, distinct_rows
from protlm.progress import Progress
from protlm.recipes.evaluated import Say
from protlm.recipes.retrieval_input import (
    SIDES,
    RetrievalInput,
    SeenPairs,
    read_retrieval_input,
    seen_pairs,
)
from protlm.recipes.retrieval_vectors import PairVectors, Towers, pair_vectors, towers_digest
from protlm.runs import Run

HARD: tuple[GalleryName, ...] = ("hard-composition", "hard-length")
"""What ``hard`` stands for."""
DEFAULT_GALLERIES = ("full", "in-cluster", "hard", "cropped", "sampled")


@dataclass
class _Judged:
    """A model, its seeds or an untrained twin, with vectors for each view."""

    name: str
    kind: Kind
    vectors: dict[str, list[PairVectors]] = field(default_factory=dict)
    members: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _View:
    """Pairs as models are shown them."""

    name: str
    pairs: Pairs
    whole: Pairs
    """The same pairs, not cropped."""
    crop: int | None


def evaluate_retrieval(
    models: Sequence[str | Path | Towers],
    structures: Path | str,
    out: Path | str,
    *,
    cluster: str | None = None,
    train: Path | str | None = None,
    side: str = "test",
    crop: int = 64,
    galleries: Sequence[str] = DEFAULT_GALLERIES,
    others: int = 31,
    identity: float | None = None,
    untrained: int = 3,
    seed: int = 0,
    num_draws: int = 2000,
    device: str = "auto",
    force: bool = False,
    say: Say = print,
) -> Run:
    """Judge pairs of towers by retrieval in both directions.

    Parameters
    ----------
    models
        Runs of contrast, folders of Runs that differ in their seed, whose numbers are averaged, or models.
        May be none, for the baselines alone.
    structures
        Structures with their sequences; see `open_backbones`.
    out
        The Run folder; tables ``retrieval``, ``retrieval_differences``, ``retrieval_space``,
        ``retrieval_similarity`` and ``ranks``.
    cluster
        Column of what is alike, such as the topology: galleries inside one, and what is resampled. As the
        first Run has it if not given.
    train
        Structures to fit baselines on, if not those of the first Run.
    side
        Which pairs of the Run's file are judged: ``test``, ``valid`` or ``all``.
    crop
        Residues that the pairs of the galleries ``cropped`` and ``sampled`` are cut to.
    galleries
        Of `GALLERIES`; ``hard`` is both of `HARD`.
    others
        Items beside the true one in galleries that are not whole.
    identity
        Count sequences once that are alike at this identity, not only equal ones.
    untrained
        Twins of each model with fresh weights, whose numbers are averaged.
    seed
        Of windows and samples.
    num_draws
        Bootstrap samples.
    device
        Where to run the models.
    force
        Start over in a finished Run.
    say
        Tells the user what happens.

    Raises
    ------
    ConfigError
        If there is no such gallery, side or column.
    DataError
        If too few pairs are left.
    ModelError
        If a model is no pair of towers, or two have one name.
    """
    chosen = _gallery_names(galleries)
    if side not in SIDES:
        raise ConfigError(f"--side '{side}' is not a choice", hint=did_you_mean(side, SIDES))
    arms = _arms(models)
    seen = {name: [_seen(each) for each in members] for name, members in arms.items()}
    data = read_retrieval_input(
        structures, seen, cluster=cluster, usual=_grouped_by(arms), train=train, side=side
    )
    for line in data.lines:
        say(line)
    views, counts = _views(data.judged, chosen, crop, identity, seed, say)
    run = Run.create(out, verb="evaluate", force=force)
    settings = {
        "kind": "retrieval",
        "models": list(arms),
        "input": str(structures),
        "cluster": data.cluster,
        "train": None if train is None else str(train),
        "side": side,
        "crop": crop,
        "galleries": list(chosen),
        "others": others,
        "identity": identity,
        "untrained": untrained,
        "seed": seed,
        "num_draws": num_draws,
    }
    run.write_config(yaml.safe_dump(settings, sort_keys=False))
    judged = _read_models(arms, views, run.path / "parts", untrained, device, say)
    tables = _judge(data, views, judged, chosen, others, seed, num_draws, say)
    for name, table in tables.items():
        table.write_parquet(run.table_path(name))
    facts = {"num_records": len(data.judged), **counts, "reading": data.lines, "leakage": data.leakage}
    run.write_json("data_manifest.json", facts)
    run.finish()
    return run


def _gallery_names(galleries: Sequence[str]) -> list[GalleryName]:
    names: list[str] = []
    for name in galleries:
        names += HARD if name == "hard" else [name]
    if unknown := [name for name in names if name not in GALLERIES]:
        raise ConfigError(
            f"--gallery '{unknown[0]}' is not a choice", hint=did_you_mean(unknown[0], [*GALLERIES, "hard"])
        )
    return [name for name in GALLERIES if name in names]


def _arms(models: Sequence[str | Path | Towers]) -> dict[str, list[str | Path | Towers]]:
    """Give the members of each model under its name."""
    from protlm.models.dual_tower import check_dual_tower
    from protlm.models.members import find_ensemble

    arms: dict[str, list[str | Path | Towers]] = {}
    for model in models:
        ensemble = find_ensemble(model) if isinstance(model, str | Path) else None
        name = Path(model).resolve().name if isinstance(model, str | Path) else model.name
        if name in (LENGTH, WHOLE_LENGTH, ANGLES, *COMPOSITIONS, CHANCE, CEILING):
            raise ModelError(f"a model is called '{name}', as a baseline is", hint="rename its folder")
        if name in arms:
            raise ModelError(f"two models are called '{name}'", hint="rename one of the folders")
        arms[name] = [model] if ensemble is None else list(ensemble.members)
        for member in arms[name]:
            if isinstance(member, str | Path):
                check_dual_tower(Path(member))
    return arms


def _seen(model: str | Path | Towers) -> SeenPairs | None:
    return seen_pairs(model) if isinstance(model, str | Path) else None


def _grouped_by(arms: Mapping[str, Sequence[str | Path | Towers]]) -> str | None:
    """Give the column that the first Run kept apart."""
    for member in (each for members in arms.values() for each in members):
        if isinstance(member, str | Path) and Run.is_run(member):
            return (Run.open(member).read_config().get("data") or {}).get("group")
    return None


def _views(
    judged: Pairs, galleries: Sequence[GalleryName], crop: int, identity: float | None, seed: int, say: Say
) -> tuple[dict[str, _View], dict[str, Any]]:
    """Make what models are shown: each distinct pair, and windows of them; all pairs where asked for."""
    rows = distinct_rows(judged, identity)
    alike = "identical" if identity is None else f"at least {identity:g} identical"
    num_repeated = len(judged) - len(rows)
    say(f"{len(rows):,} distinct of {len(judged):,} pairs; {num_repeated:,} of {alike} sequences left out")
    if len(rows) < 2:
        raise DataError(f"{len(rows)} distinct pairs are too few to choose from", hint="expected at least 2")
    distinct = judged.take(rows)
    views = {}
    counts: dict[str, Any] = {"distinct": len(rows), "repeated": num_repeated}
    if "all" in galleries:
        views["all"] = _View("all pairs", judged, judged, None)
    if set(galleries) - {"all", *CROPPED}:
        views["whole"] = _View("whole pairs", distinct, distinct, None)
    if set(galleries) & set(CROPPED):
        windows, kept, left_out = crop_pairs(distinct, crop, seed=seed)
        say(
            f"{len(windows):,} of {len(distinct):,} pairs are cropped to {crop} residues; left out: "
            f"{left_out['short']:,} shorter and {left_out['unresolved']:,} mostly unresolved ones"
        )
        views["crop"] = _View(f"windows of {crop}", windows, distinct.take(kept), crop)
        counts["cropped"] = {"residues": crop, "pairs": len(windows), "left_out": left_out}
    return views, counts


def _view_of(gallery: GalleryName) -> str:
    return "crop" if gallery in CROPPED else "all" if gallery == "all" else "whole"


def _read_models(
    arms: Mapping[str, Sequence[str | Path | Towers]],
    views: Mapping[str, _View],
    folder: Path,
    untrained: int,
    device: str,
    say: Say,
) -> list[_Judged]:
    """Read every view through every model and its untrained twins; twins that came out alike are one."""
    judged, twins, known = [], [], set()
    for name, members in arms.items():
        arm = _Judged(name, "model")
        judged.append(arm)
        for number, member in enumerate(members):
            towers = _load(member, device)
            _refuse_windows(towers, views)
            arm.members.append(towers.name)
            shown = name if len(members) == 1 else f"{name}, {towers.name}"
            _add(arm, towers, views, folder, shown, say)
            if number == 0 and untrained:
                twin = _Judged(f"{name}, untrained", "untrained")
                fresh = [towers.untrained(number) for number in range(untrained)]
                alike = towers_digest(fresh[0])
                if alike is None or alike not in known:
                    known.add(alike)
                    twins.append(twin)
                    for each in fresh:
                        _add(twin, each, views, folder, twin.name, say)
    return [*judged, *twins]


def _refuse_windows(towers: Towers, views: Mapping[str, _View]) -> None:
    """Refuse to show windows to vectors that were made of whole structures."""
    from protlm.models.precomputed import PrecomputedVectors

    encoder = getattr(getattr(towers, "structure", None), "encoder", None)
    if "crop" in views and isinstance(encoder, PrecomputedVectors):
        raise ConfigError(
            f"{towers.name} looks up vectors of whole structures, and has none of windows",
            hint="--gallery full --gallery in-cluster --gallery hard",
        )


def _add(
    judged: _Judged, towers: Towers, views: Mapping[str, _View], folder: Path, shown: str, say: Say
) -> None:
    for key, view in views.items():
        say(f"{shown}: {len(view.pairs):,} {view.name}")
        found = pair_vectors(towers, view.pairs, folder, what=shown)
        judged.vectors.setdefault(key, []).append(found)


def _load(member: str | Path | Towers, device: str) -> Towers:
    if not isinstance(member, str | Path):
        return member
    from protlm.models.dual_tower import load_dual_tower

    return load_dual_tower(member, device=device)


def _judge(
    data: RetrievalInput,
    views: Mapping[str, _View],
    judged: Sequence[_Judged],
    galleries: Sequence[GalleryName],
    others: int,
    seed: int,
    num_draws: int,
    say: Say,
) -> dict[str, pl.DataFrame]:
    """Judge every gallery and describe every space."""
    matchers = {key: _matchers(view, judged, key, data.training, seed, say) for key, view in views.items()}
    parts: list[JudgedGallery] = []
    with Progress("galleries", len(galleries), unit="gallery") as progress:
        for name in galleries:
            view = views[_view_of(name)]
            gallery = build_gallery(name, view.pairs, others=others, seed=seed)
            if not gallery.queries.size:
                say(f"gallery '{name}': no pair has another one in its cluster; left out")
                continue
            left_out = len(view.pairs) - len(gallery.queries)
            alone = f"; {left_out:,} have none and are left out" if left_out else ""
            say(f"gallery '{name}' ({DESCRIPTIONS[name]}): {len(gallery.queries):,} queries{alone}")
            parts.append(
                judge_gallery(
                    gallery,
                    matchers[_view_of(name)],
                    view.pairs.clusters,
                    view.pairs.ids,
                    [view.pairs.sequence_codes, view.pairs.structure_codes],
                    crop=view.crop,
                    num_draws=num_draws,
                )
            )
            progress.advance()
    if not parts:
        raise DataError("no gallery has a query with something to choose from", hint="name another --gallery")
    tables = {
        "retrieval": pl.concat([part.metrics for part in parts]),
        "retrieval_differences": pl.concat([part.differences for part in parts]),
        "ranks": pl.concat([part.ranks for part in parts]),
    }
    spaces = [
        space_rows(
            each.name,
            each.kind,
            each.vectors[key],
            view.pairs.clusters,
            crop=view.crop,
            num_draws=num_draws,
        )
        for key, view in views.items()
        for each in judged
        if key != "all"
    ]
    shown = "whole" if "whole" in views else next(iter(views))
    pairs = views[shown].pairs
    maps = [
        similarity_table(
            each.name,
            cosine_scores(*each.vectors[shown][0]),
            pairs.clusters,
            pairs.ids,
        )
        for each in judged
        if each.kind == "model"
    ]
    named = {"retrieval_space": spaces, "retrieval_similarity": maps}
    return tables | {name: pl.concat(found) for name, found in named.items() if found}


def _matchers(
    view: _View,
    judged: Sequence[_Judged],
    key: str,
    training: Pairs | None,
    seed: int,
    say: Say,
) -> list[Matcher]:
    """Give models, their seeds, untrained twins and baselines on one view."""
    models, seeds, others = [], [], []
    for each in judged:
        scores = [cosine_scores(*vectors) for vectors in each.vectors[key]]
        (models if each.kind == "model" else others).append(Matcher(each.name, each.kind, scores))
        if each.kind == "model" and len(scores) > 1:
            seeds += [
                Matcher(f"{each.name}, {name}", "seed", [one])
                for name, one in zip(each.members, scores, strict=True)
            ]
    is_cropped = view.crop is not None
    name = WHOLE_LENGTH if is_cropped else LENGTH
    others.append(Matcher(name, "baseline", [length_scores(view.whole)], sees_more=is_cropped))
    if training is not None:
        try:
            fitted = crop_pairs(training, view.crop, seed=seed)[0] if view.crop else training
            for name, segments in COMPOSITIONS.items():
                scores = CompositionMatcher(fitted, segments).scores(view.pairs)
                others.append(Matcher(name, "baseline", [scores]))
            others.append(Matcher(ANGLES, "baseline", [AngleMatcher(fitted).scores(view.pairs)]))
        except DataError as error:
            say(f"{view.name}: {error.message}; the baselines that are fitted are left out")
    return [*models, *seeds, *others]
