"""Typed configuration: load a YAML file, apply overrides, report every mistake at once."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, ValidationError

from protlm.errors import ConfigError, did_you_mean
from protlm.registry import Registry

Rate = Annotated[float, Field(ge=0.0, le=1.0)]
"""A probability, in [0, 1]."""


class BaseConfig(BaseModel):
    """Frozen settings; unknown keys are rejected."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, source: str = "config") -> Self:
        """Validate `values` and report every problem in one message.

        Parameters
        ----------
        values
            Nested plain values, as read from YAML.
        source
            Where they came from, for the message.

        Raises
        ------
        ConfigError
            Listing each wrong key with its value and the names that are known there.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(_explain(error, cls, source)) from None

    @classmethod
    def load(cls, path: Path | str | None, overrides: Sequence[str] = ()) -> Self:
        """Read a YAML file, with at most one parent named by `extends`, and apply overrides.

        Parameters
        ----------
        path
            The file; `None` starts from the defaults.
        overrides
            ``"a.b=value"`` strings; values are parsed as YAML. Later ones win.

        Raises
        ------
        ConfigError
            If the file cannot be read or its content is not valid.
        """
        values = _read(Path(path)) if path is not None else {}
        for override in overrides:
            _override(values, override)
        return cls.from_dict(values, source=str(path) if path is not None else "settings")

    def dump(self) -> str:
        """Write the resolved settings as YAML that `load` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def one_of(registry: Registry, default: str) -> BeforeValidator:
    """Choose a part's own `Config` by the `kind` key.

    Use it as ``Annotated[SerializeAsAny[BaseConfig], one_of(maskings, "uniform")]``.

    Parameters
    ----------
    registry
        Where the kinds are registered. Each part must have a nested `Config`.
    default
        The kind of a mapping that does not say.
    """

    def choose(value: Any) -> Any:
        if isinstance(value, BaseConfig):
            return value
        if isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, dict):
            raise ValueError(f"expected a mapping with 'kind', one of {', '.join(registry.names())}")
        value = {"kind": default, **value}
        try:
            part = registry.get(value["kind"])
        except ConfigError as error:
            raise ValueError(str(error).replace("\nhint: ", "; ")) from error
        return part.Config.model_validate(value)

    return BeforeValidator(choose)


AnyConfig = SerializeAsAny[BaseConfig]


def _read(path: Path, *, is_parent: bool = False) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"cannot read config {path}: {error.strerror}", hint="shipped ones are under configs/"
        ) from error
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values at the top, got {type(values).__name__}")
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if is_parent:
        raise ConfigError(f"{path} extends {parent}, but is a parent itself", hint="one parent is allowed")
    return _merge(_read(path.parent / parent, is_parent=True), values)


def _merge(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    merged = dict(parent)
    for key, value in child.items():
        old = merged.get(key)
        same_kind = isinstance(old, dict) and isinstance(value, dict)
        same_kind = same_kind and value.get("kind", old.get("kind")) == old.get("kind")  # type: ignore[union-attr]
        merged[key] = _merge(old, value) if same_kind else value  # type: ignore[arg-type]
    return merged


def _override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(
            f"--set {override!r}: expected KEY=VALUE", hint="for example --set training.max_steps=100"
        )
    *parents, last = key.split(".")
    for parent in parents:
        node = values.setdefault(parent, {})
        if isinstance(node, str):  # "masking: uniform" is short for "masking: {kind: uniform}"
            node = values[parent] = {"kind": node}
        if not isinstance(node, dict):
            raise ConfigError(f"--set {override!r}: '{parent}' is {node!r}, which has no keys below it")
        values = node
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: the value is not valid YAML: {error}") from error
    if last == "kind" and values.get("kind") != value:
        values.clear()  # keys of another kind do not carry over
    values[last] = _number(value)


def _number(value: Any) -> Any:
    """Read ``1e-3``, which YAML 1.1 takes for text, as the number it is."""
    if isinstance(value, str) and "e" in value.lower():
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _explain(error: ValidationError, config: type[BaseModel], source: str) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or "(top)"
        value = problem["input"]
        shown = "" if isinstance(value, dict) else f" (got {value!r})"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            known = _known_names(config, problem["loc"][:-1])
            message = f"unknown key; {did_you_mean(str(problem['loc'][-1]), known)}"
        lines.append(f"  {where}: {message}{shown}")
    return f"{source}: {len(lines)} problem{'s' * (len(lines) != 1)}\n" + "\n".join(lines)


def _known_names(config: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    model: Any = config
    for part in path:
        field = getattr(model, "model_fields", {}).get(part)
        model = _model_of(field.annotation) if field is not None else None
    return list(getattr(model, "model_fields", {}))


def _model_of(annotation: Any) -> Any:
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    is_model: Callable[[Any], bool] = lambda each: isinstance(each, type) and issubclass(each, BaseModel)  # noqa: E731
    return next((each for each in candidates if is_model(each)), None)
