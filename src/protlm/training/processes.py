"""The processes that train together: who they are, who writes, and how they agree."""

import atexit
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NoReturn

import torch

from protlm.errors import ConfigError, RunError

PATIENCE = timedelta(hours=6)
"""How long a process waits for another, such as for the one that prepares a large corpus."""

_FSDP_SETTINGS = {
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "NO_WRAP",
    "FSDP_OFFLOAD_PARAMS": "false",
    "FSDP_ACTIVATION_CHECKPOINTING": "false",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
"""What `accelerate launch` must leave in the environment: the only values that the loop does."""

Say = Callable[[str], None]


class Processes:
    """One process, or the several that `accelerate launch` or `torchrun` started.

    Parameters
    ----------
    device
        Where to run when there is one process; several on GPUs take one GPU each.
    launched
        Number of processes that were launched, if not as the environment says.

    Attributes
    ----------
    index, count
        Number of this process, 0-based, and of all.
    device
        Where this process runs.

    Examples
    --------
    >>> alone = Processes(torch.device("cpu"))
    >>> alone.index, alone.count, alone.is_main, alone.gather({"loss": 1.5})
    (0, 1, True, [{'loss': 1.5}])
    """

    def __init__(self, device: torch.device, *, launched: int | None = None) -> None:
        self.index, self.count = 0, num_launched() if launched is None else launched
        self.device: torch.device = device
        if self.count > 1:
            _refuse_deepspeed(os.environ)
            from accelerate.state import PartialState

            atexit.register(_leave)
            state = PartialState(cpu=device.type == "cpu", timeout=PATIENCE)
            self.index, self.count = state.process_index, state.num_processes
            self.device = torch.device(state.device)  # type: ignore[arg-type]
            if self.count != num_launched():
                raise ConfigError(
                    f"{num_launched()} processes were launched, but {self.count} could join on {device}",
                    hint="pass --device cpu, or launch one process per GPU",
                )

    @property
    def is_main(self) -> bool:
        """Whether this process writes and talks."""
        return self.index == 0

    def gather(self, value: Any) -> list[Any]:
        """Give the values of all processes to each, by their number.

        Parameters
        ----------
        value
            Plain values.
        """
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(values, value)
        return values

    def any(self, flag: bool) -> bool:
        """Tell whether the flag is up in some process.

        Parameters
        ----------
        flag
            Of this process.
        """
        return flag if self.count == 1 else any(self.gather(flag))

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process do something before the others do the same.

        Raises
        ------
        RunError
            In the others, if the main process failed; it says why.
        """
        if self.is_main:
            try:
                yield
            except BaseException:  # Ctrl-C too: the others wait for an answer, and would wait for hours
                self.gather(False)
                raise
            self.gather(True)
            return
        if not self.gather(True)[0]:
            raise RunError("the main process failed")
        yield

    def say(self, say: Say) -> Say:
        """Give a way to talk that is silent in all processes but the main one.

        Parameters
        ----------
        say
            Tells the user something.
        """
        return say if self.is_main else lambda _: None


def _leave() -> None:
    """Leave the group of processes at the end of this one."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def end_process(exit_status: int) -> NoReturn:
    """End one of several processes at once, after its work.

    Threads of torch sometimes abort a process while its interpreter is taken down, which a launcher
    would report as a failure of a training that is done.

    Parameters
    ----------
    exit_status
        What the launcher sees.
    """
    _leave()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_status)


def num_launched(environment: Mapping[str, str] = os.environ) -> int:
    """Give the number of processes that a launcher started, by what it left in the environment.

    Parameters
    ----------
    environment
        Of this process.

    Examples
    --------
    >>> num_launched({}), num_launched({"WORLD_SIZE": "4", "RANK": "1", "LOCAL_RANK": "1"})
    (1, 4)
    """
    return int(environment.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in environment else 1


def launch_warning(environment: Mapping[str, str] = os.environ) -> str | None:
    """Say that `accelerate launch` started one process although it was asked for several.

    It does so on a machine without GPUs: its ``--cpu`` starts several processes through mpirun only.

    Parameters
    ----------
    environment
        Of this process.

    Examples
    --------
    >>> launch_warning({}) is None
    True
    >>> launch_warning({"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"})[:52]
    'accelerate launch was asked for several processes bu'
    """
    is_launched = "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_ADDR" in environment
    if not is_launched or "LOCAL_RANK" in environment:
        return None
    return (
        "accelerate launch was asked for several processes but started one, as it does without GPUs; "
        "add --multi_gpu, or --config_file configs/accelerate/ddp-cpu.yaml"
    )


def distribution(environment: Mapping[str, str] = os.environ) -> str:
    """Describe how several processes would share the training.

    Parameters
    ----------
    environment
        Of this process, as `accelerate launch` set it.

    Raises
    ------
    ConfigError
        If it asks for what cannot be done here.

    Examples
    --------
    >>> distribution({})
    'one process'
    >>> distribution({"WORLD_SIZE": "2", "LOCAL_RANK": "0"})
    '2 processes, each with a whole model (DDP)'
    """
    count = num_launched(environment)
    if _is_on(environment, "ACCELERATE_USE_DEEPSPEED"):
        return f"{count} processes, {_deepspeed(environment)}"
    if is_sharded(environment):
        plugin = fsdp_plugin()
        return (
            f"{count} processes, parameters and optimiser state in {count} shards (FSDP2, "
            f"reshard_after_forward={plugin.reshard_after_forward})"
        )
    return "one process" if count == 1 else f"{count} processes, each with a whole model (DDP)"


def is_sharded(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether `accelerate launch` asks for FSDP.

    Parameters
    ----------
    environment
        Of this process.
    """
    return _is_on(environment, "ACCELERATE_USE_FSDP")


def fsdp_plugin() -> Any:
    """Build Accelerate's FSDP settings from the environment that its launcher left.

    Raises
    ------
    ConfigError
        If they ask for what the loop does not do.
    """
    for name, only in _FSDP_SETTINGS.items():
        value = os.environ.get(name, only)
        if value.lower() != only.lower():
            raise ConfigError(
                f"{name.lower()} '{value}' is not supported; only '{only}' is",
                hint="configs/accelerate/fsdp.yaml has all the settings",
            )
    from accelerate import FullyShardedDataParallelPlugin

    return FullyShardedDataParallelPlugin()


def _deepspeed(environment: Mapping[str, str]) -> str:
    from accelerate.utils import is_deepspeed_available

    stage = environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "?")
    if not is_deepspeed_available():
        return f"DeepSpeed ZeRO stage {stage}; deepspeed is not installed: pip install deepspeed"
    return f"DeepSpeed ZeRO stage {stage}"


def _refuse_deepspeed(environment: Mapping[str, str]) -> None:
    if _is_on(environment, "ACCELERATE_USE_DEEPSPEED"):
        raise ConfigError(
            "training under DeepSpeed is not supported: its engine takes over the gradient step",
            hint="configs/accelerate/fsdp.yaml shards gradients and optimiser state too, and is tested",
        )


def _is_on(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "false").lower() == "true"
