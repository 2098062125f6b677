"""Named parts that a config can choose by `kind`, loaded only when asked for."""

import importlib
from typing import Any

from protlm.errors import ConfigError, did_you_mean


class Registry:
    """A lazy table from a short name to a class.

    Parameters
    ----------
    family
        What the parts are, for error messages, such as ``"masking"``.
    parts
        Name to ``"module:attribute"``. Nothing is imported before it is asked for.

    Examples
    --------
    >>> shelf = Registry("container", {"ordered": "collections:OrderedDict"})
    >>> shelf.get("ordered").__name__
    'OrderedDict'
    >>> shelf.get("orderd")
    Traceback (most recent call last):
    ...
    protlm.errors.ConfigError: unknown container 'orderd'
    hint: did you mean 'ordered'? known: ordered, or "package.module:Name" for a part of your own
    """

    def __init__(self, family: str, parts: dict[str, str]) -> None:
        self.family = family
        self._parts = dict(parts)

    def names(self) -> list[str]:
        """List the registered names, sorted."""
        return sorted(self._parts)

    def register(self, name: str, target: str) -> None:
        """Add a part; a name that is taken is an error.

        Parameters
        ----------
        name
            The `kind` users will write.
        target
            ``"module:attribute"``.
        """
        if name in self._parts:
            raise ConfigError(f"{self.family} '{name}' is registered already, as {self._parts[name]}")
        self._parts[name] = target

    def get(self, name: str) -> Any:
        """Import and return the part called `name`.

        Parameters
        ----------
        name
            A registered name, or ``"package.module:Name"`` for a part from outside.

        Raises
        ------
        ConfigError
            If no such part exists.
        """
        is_outside = all(name.partition(":")[::2])
        target = self._parts.get(name, name if is_outside else None)
        if target is None:
            outside = ', or "package.module:Name" for a part of your own'
            raise ConfigError(
                f"unknown {self.family} '{name}'", hint=did_you_mean(name, self._parts) + outside
            )
        module_name, _, attribute = target.partition(":")
        try:
            return getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"cannot load {self.family} '{name}' from {target}: {error}") from error
