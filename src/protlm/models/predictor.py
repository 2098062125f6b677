"""An encoder with a head: what fine-tuning makes, and what predicts."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from protlm.data.collate import collate
from protlm.data.flat import flatten_records
from protlm.data.roles import with_roles
from protlm.data.sampling import budget_batches
from protlm.data.token_counts import record_lengths
from protlm.errors import ModelError
from protlm.models.adaptation import is_adapted, merged_weights, save_adapter
from protlm.models.heads import Head, load_head, views
from protlm.models.language_model import LanguageModel, Precision
from protlm.models.loading import load_model
from protlm.models.pooling import ResidueStates, begin_states, residue_states
from protlm.runs import Run
from protlm.types.batch import Batch
from protlm.types.record import Record
from protlm.types.target import Target

HEAD_FOLDER = "head"


class Predictor(nn.Module):
    """Classes or numbers of records, or of their residues.

    Parameters
    ----------
    encoder
        Any language model; its own head is not used.
    head
        On the same device.
    """

    def __init__(self, encoder: LanguageModel, head: Head) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        if head.facts.settings.pooling == "begin" and not encoder.layout.begin:
            raise ModelError(f"model '{encoder.name}' has no begin token", hint="pool by the mean instead")

    @property
    def target(self) -> Target:
        """What is predicted."""
        return self.head.facts.target

    @property
    def name(self) -> str:
        """Of the encoder."""
        return self.encoder.name

    def batch(self, records: Sequence[Record]) -> Batch:
        """Lay out the inputs of records, as `outputs` takes them.

        Parameters
        ----------
        records
            Of the level of the target.
        """
        layout = self.encoder.layout
        return collate(flatten_records(with_roles(views(records, self.head.facts), layout)), layout)

    def lengths(self, records: Sequence[Record]) -> np.ndarray:
        """Count the tokens of all inputs of each record.

        Parameters
        ----------
        records
            Any.
        """
        made = with_roles(views(records, self.head.facts), self.encoder.layout)
        return record_lengths(made, self.encoder.layout).reshape(len(records), -1).sum(axis=1)

    def states(self, batch: Batch) -> ResidueStates | Tensor:
        """Give what the head reads of a batch.

        Parameters
        ----------
        batch
            From `batch`.
        """
        batch = batch.to(self.encoder.device)
        hidden = self.encoder.hidden(batch).float()
        facts = self.head.facts
        if facts.settings.pooling == "begin" and facts.target.level != "residue":
            return begin_states(hidden, batch)
        return residue_states(hidden, batch)

    def outputs(self, batch: Batch) -> Float[Tensor, "n o"]:
        """Give logits, or scaled numbers, with their gradient: a row per record, or per residue.

        Parameters
        ----------
        batch
            From `batch`. Rows of residues stand as the chains do, laid end to end.
        """
        return self.head(self.states(batch))

    def forward(self, batch: Batch) -> Float[Tensor, "n o"]:
        """Give `outputs`.

        Parameters
        ----------
        batch
            From `batch`.
        """
        return self.outputs(batch)

    def read(self, outputs: Tensor) -> np.ndarray:
        """Turn outputs into probabilities, or numbers in the unit of the training values.

        Parameters
        ----------
        outputs
            ``[n, o]``.

        Returns
        -------
        numpy.ndarray
            float64 ``[n, classes]`` (`binary` has both classes), ``[n, labels]``, or ``[n, 1]`` of a value.
        """
        return read_outputs(outputs, self.head)

    def predict(
        self,
        records: Sequence[Record],
        *,
        max_tokens: int | None = None,
        on_batch: Callable[[int], None] | None = None,
    ) -> list[np.ndarray]:
        """Give probabilities or numbers of each record, in order.

        Parameters
        ----------
        records
            Of the level of the target.
        max_tokens
            Token budget of a batch; by the device if not said.
        on_batch
            Called with the number of records finished.

        Returns
        -------
        list of numpy.ndarray
            As `read` has them, ``[columns]`` per record, or ``[residues, columns]`` at residue level.
        """
        return predict_all([self], records, max_tokens=max_tokens, on_batch=on_batch)[0]

    def save(self, run: Run, weights: Mapping[str, Tensor] | None = None, *, encoder: bool = True) -> None:
        """Write ``model``, ``head`` and, of low-rank adapters, ``adapter`` into a Run.

        Parameters
        ----------
        run
            Where to.
        weights
            By name, where they are not the module's own as they are.
        encoder
            Whether to write the encoder too; one that is not trained is kept once for several heads.
        """
        own = dict(self.state_dict() if weights is None else weights)
        self.head.save(run.path / HEAD_FOLDER, _below(own, "head."))
        if encoder:
            inner = _below(own, "encoder.module.")
            if is_adapted(self.encoder.module):
                save_adapter(self.encoder.module, inner, run.adapter_path)
                inner = merged_weights(self.encoder.module, inner)
            self.encoder.save(run.model_path, inner)


def predict_all(
    predictors: Sequence[Predictor],
    records: Sequence[Record],
    *,
    max_tokens: int | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> list[list[np.ndarray]]:
    """Give what each of several models predicts; heads on one encoder read each record once together.

    Parameters
    ----------
    predictors
        Of one target.
    records, max_tokens
        As for `Predictor.predict`.
    on_batch
        Called with the number of records finished, once for all models.

    Returns
    -------
    list
        By model, as `Predictor.predict` gives it.
    """
    found = [[np.zeros(0)] * len(records) for _ in predictors]
    together: dict[tuple[int, bool, bool], list[int]] = {}
    for number, predictor in enumerate(predictors):
        facts = predictor.head.facts
        is_begin = facts.settings.pooling == "begin"
        together.setdefault((id(predictor.encoder), facts.both_orders, is_begin), []).append(number)
    last = len(together) - 1
    for place, members in enumerate(together.values()):
        first = predictors[members[0]]
        budget = max_tokens or first.encoder.token_budget
        for chosen in budget_batches(first.lengths(records), budget) if len(records) else []:
            own = [records[index] for index in chosen]
            with torch.inference_mode():
                states = first.states(first.batch(own))
                for number in members:
                    _keep(found[number], chosen, predictors[number], states, own)
            if on_batch is not None and place == last:
                on_batch(len(chosen))
    return found


def _keep(
    found: list[np.ndarray],
    chosen: np.ndarray,
    predictor: Predictor,
    states: ResidueStates | Tensor,
    records: Sequence[Record],
) -> None:
    values = predictor.read(predictor.head(states))
    if predictor.target.level == "residue":
        parts: Sequence[np.ndarray] = np.split(values, np.cumsum([len(each) for each in records])[:-1])
    else:
        parts = list(values)
    for index, part in zip(chosen.tolist(), parts, strict=True):
        found[index] = part


def read_outputs(outputs: Tensor, head: Head) -> np.ndarray:
    """Turn outputs of a head into probabilities, or numbers in the unit of the training values.

    Parameters
    ----------
    outputs
        ``[n, o]``.
    head
        For its target and the scale of its values.

    Returns
    -------
    numpy.ndarray
        As `Predictor.read`.
    """
    outputs, facts = outputs.detach().double().cpu(), head.facts
    if facts.target.kind == "value":
        return (outputs * facts.sd + facts.mean).numpy()
    if facts.target.kind == "classes":
        return outputs.softmax(dim=-1).numpy()
    positive = outputs.sigmoid()
    return (
        torch.cat([1 - positive, positive], dim=-1) if facts.target.kind == "binary" else positive
    ).numpy()


def load_predictor(name: str | Path, *, device: str = "auto", precision: Precision = "float32") -> Predictor:
    """Load one fine-tuned model for inference.

    Parameters
    ----------
    name
        A Run of `protlm finetune` that trained one model, or one of several in it, such as ``RUN/seed-0``.
    device, precision
        As for `load_model`; heads are in float32.

    Raises
    ------
    ModelError
        If it is not there, not finished, or stands for several.
    """
    members = predictor_folders(name)
    if len(members) > 1:
        raise ModelError(
            f"'{name}' holds {len(members)} fine-tuned models, and one is needed here",
            hint=f"name one, such as {members[0]}; predict takes them all",
        )
    return _load(members[0], device, precision, {})


def load_predictors(
    name: str | Path, *, device: str = "auto", precision: Precision = "float32"
) -> list[Predictor]:
    """Load all fine-tuned models of a Run: one per seed and fold.

    Parameters
    ----------
    name, device, precision
        As for `load_predictor`.
    """
    shared: dict[Path, LanguageModel] = {}
    return [_load(folder, device, precision, shared) for folder in predictor_folders(name)]


def predictor_folders(name: str | Path) -> list[Path]:
    """List the folders that hold a head each.

    Parameters
    ----------
    name
        A Run of `protlm finetune`, or one of several in it.

    Raises
    ------
    ModelError
        If there is none.
    """
    path = Path(name)
    if (path / HEAD_FOLDER).is_dir():
        return [path]
    if Run.is_run(path) and Run(path).verb == "finetune":
        if not Run(path).is_done:
            raise ModelError(f"the Run {path} is not finished", hint="run its finetune command again")
        listed = Run(path).read_json("predictors.json")["folders"]
        return [path / each for each in listed]
    what = (
        f"is a '{Run(path).verb}' Run"
        if Run.is_run(path)
        else "is no Run"
        if path.exists()
        else "is not there"
    )
    raise ModelError(
        f"'{name}' {what}, and a fine-tuned model is needed", hint="name a Run of protlm finetune"
    )


def _load(folder: Path, device: str, precision: Precision, shared: dict[Path, LanguageModel]) -> Predictor:
    """Load a head with its encoder, or with one that is loaded already: a frozen one is kept once."""
    head = load_head(folder / HEAD_FOLDER)
    tries = [folder / "model", *(parent / "model" for parent in folder.parents[:3])]
    found = next((path for path in tries if (path / "config.json").is_file()), None)
    if found is None:
        raise ModelError(f"{folder} has a head and no encoder", hint="was its folder 'model' moved?")
    if found not in shared:
        shared[found] = load_model(found, device=device, precision=precision)
        shared[found].name = found.parent.resolve().name
    encoder = shared[found]
    return Predictor(encoder, head.to(encoder.device)).eval()


def _below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): each for name, each in weights.items() if name.startswith(prefix)}
