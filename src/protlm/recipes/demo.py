"""demo: the main job from end to end, offline, on a simulated repertoire."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from protlm.data.simulate import repertoire_frame, simulate_repertoire
from protlm.errors import ConfigError, RunError, did_you_mean
from protlm.models.architectures import EsmArchitecture
from protlm.models.loading import load_model
from protlm.recipes.embed import embed_file
from protlm.recipes.evaluate import evaluate_regions
from protlm.recipes.prepare import HELD_OUT, TRAIN, prepare
from protlm.recipes.pretrain import DataConfig, PretrainConfig, pretrain
from protlm.recipes.score import score_file
from protlm.runs import Run
from protlm.training.loop import TrainingConfig
from protlm.training.optim import OptimizerConfig

Say = Callable[[str], None]

TRASTUZUMAB_VH = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
    "SRWGGDGFYAMDYWGQGTLVTVSS"
)
"""Variable heavy domain of trastuzumab (PDB 1N8Z, chain B; Cho et al. 2003, doi:10.1038/nature01392)."""


@dataclass(frozen=True)
class DemoSize:
    """How much the demo does."""

    records: int
    steps: int
    step_tokens: int
    hidden_size: int
    num_layers: int
    num_heads: int
    eval_records: int


SIZES = {
    "small": DemoSize(
        records=600, steps=60, step_tokens=2048, hidden_size=64, num_layers=2, num_heads=4, eval_records=12
    ),
    "full": DemoSize(
        records=4000, steps=600, step_tokens=4096, hidden_size=96, num_layers=4, num_heads=4, eval_records=40
    ),
}


def demo(out: Path, *, size: str = "full", seed: int = 0, say: Say = print) -> dict[str, Path]:
    """Simulate, prepare, pre-train twice, evaluate, score and embed; the report is made by the caller.

    Each step is a command of its own, and is said as that command before it runs.

    Parameters
    ----------
    out
        Folder for everything; finished steps in it are kept, an interrupted one resumes.
    size
        ``"full"`` or ``"small"``.
    seed
        Of everything.
    say
        Tells the user what happens.

    Returns
    -------
    dict
        Path of each part: ``uniform``, ``cdr3``, ``evaluation``, ``scan``, ``embeddings``.
    """
    if size not in SIZES:
        raise ConfigError(f"--size {size!r} is not a choice", hint=did_you_mean(size, SIZES))
    chosen = SIZES[size]
    _claim(out, {"size": size, "seed": seed})
    corpus = _corpus(out, chosen, seed, say)
    runs = {arm: _pretrain(out, arm, corpus, chosen, seed, say) for arm in ("uniform", "cdr3")}
    evaluation = _evaluate(out, runs, corpus, chosen, say)
    return {
        **runs,
        "evaluation": evaluation,
        "scan": _scan(out, runs["cdr3"], say),
        "embeddings": _embed(out, runs["cdr3"], say),
    }


def _claim(out: Path, settings: dict[str, str | int]) -> None:
    """Refuse a folder that holds a demo of other settings, or something else."""
    note = out / "demo.json"
    if out.exists() and any(out.iterdir()):
        old = json.loads(note.read_text(encoding="utf-8")) if note.exists() else None
        if old != settings:
            what = f"a demo with {old}" if old else "other files"
            raise RunError(f"{out} holds {what}", hint="choose another --out, or remove that folder")
    out.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(settings) + "\n", encoding="utf-8")


def _corpus(out: Path, chosen: DemoSize, seed: int, say: Say) -> Path:
    table, corpus = out / "repertoire.parquet", out / "corpus"
    if corpus.exists():
        return corpus
    say(f"\n$ protlm simulate --records {chosen.records} --seed {seed} --out {table}")
    repertoire_frame(simulate_repertoire(chosen.records, seed=seed)).write_parquet(table)
    say(f"\n$ protlm prepare {table} --holdout 0.1 --out {corpus}")
    prepared = prepare(table, corpus, holdout=0.1, seed=seed)
    for line in prepared.numbering.lines():
        say(line)
    return corpus


def _pretrain(out: Path, arm: str, corpus: Path, chosen: DemoSize, seed: int, say: Say) -> Path:
    path = out / arm
    if Run.is_run(path) and Run(path).is_done:
        return path
    config = PretrainConfig(
        data=DataConfig(train=f"{corpus}:{TRAIN}", eval=f"{corpus}:{HELD_OUT}", eval_records=100),
        model=EsmArchitecture.Config(
            num_layers=chosen.num_layers, hidden_size=chosen.hidden_size, num_heads=chosen.num_heads
        ),
        masking={"kind": "uniform" if arm == "uniform" else "region"},  # type: ignore[arg-type]
        training=TrainingConfig(
            max_steps=chosen.steps,
            step_tokens=chosen.step_tokens,
            eval_every=max(1, chosen.steps // 6),
            save_every=max(1, chosen.steps // 5),
            keep="last",
            tensorboard=False,
            optimizer=OptimizerConfig(learning_rate=4e-3, warmup_steps=chosen.steps // 10),
        ),
        seed=seed,
    )
    (out / f"{arm}.yaml").write_text(config.dump(), encoding="utf-8")
    say(f"\n$ protlm pretrain --config {out / arm}.yaml --out {path}")
    return pretrain(config, path, device="cpu", say=say).path


def _evaluate(out: Path, runs: dict[str, Path], corpus: Path, chosen: DemoSize, say: Say) -> Path:
    path = out / "evaluation"
    if Run.is_run(path) and Run(path).is_done:
        return path
    models = [str(runs["cdr3"]), str(runs["uniform"])]
    flags = " ".join(f"--model {model}" for model in models)
    say(
        f"\n$ protlm evaluate regions {flags} --input {corpus}:{HELD_OUT} "
        f"--max-records {chosen.eval_records} --out {path}"
    )
    source = f"{corpus}:{HELD_OUT}"
    run = evaluate_regions(models, source, path, max_records=chosen.eval_records, device="cpu", say=say)
    return run.path


def _scan(out: Path, model_path: Path, say: Say) -> Path:
    path = out / "trastuzumab_vh.parquet"
    if path.exists():
        return path
    fasta = out / "trastuzumab_vh.fasta"
    fasta.write_text(f">trastuzumab_VH\n{TRASTUZUMAB_VH}\n", encoding="utf-8")
    say(f"\n$ protlm score --model {model_path} --wild-type {fasta} --all-single --out {path}")
    score_file([str(model_path)], str(fasta), path, device="cpu", say=say)
    return path


def _embed(out: Path, model_path: Path, say: Say) -> Path:
    path = out / "embeddings.parquet"
    if path.exists():
        return path
    fasta = out / "heavy.fasta"
    chains = pl.read_parquet(out / "repertoire.parquet").head(200).select("sequence_id", "heavy")
    fasta.write_text("".join(f">{name}\n{heavy}\n" for name, heavy in chains.iter_rows()), encoding="utf-8")
    say(f"\n$ protlm embed --model {model_path} --input {fasta} --out {path}")
    embed_file(load_model(model_path, device="cpu"), fasta, path, say=say)
    return path
