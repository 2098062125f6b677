"""Wrap a model for several processes, and give or take whole tensors where a process holds shards."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from protlm.training.processes import Processes, fsdp_plugin, is_sharded


def wrap(model: nn.Module, accelerator: Accelerator, processes: Processes) -> nn.Module:
    """Make the module that the loop calls: the model itself, in DDP, or sharded in place by FSDP2.

    Parameters
    ----------
    model
        On the device of this process.
    accelerator
        For DDP.
    processes
        All that train together.

    Notes
    -----
    The flat forward pass calls sub-modules of the Hugging Face layers rather than the layers, so FSDP
    has one unit, the whole model. Shards of parameters, gradients and optimiser state are held between
    steps; during the passes each process has whole parameters.
    """
    if processes.count == 1 or not is_sharded():
        return accelerator.prepare_model(model)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(processes.device.type, (processes.count,))
    fully_shard(model, mesh=mesh, reshard_after_forward=fsdp_plugin().reshard_after_forward)
    return model


@contextmanager
def gradients_held(wrapped: nn.Module, accelerator: Accelerator, *, hold: bool) -> Iterator[None]:
    """Sum gradients in this process alone while more micro-batches of the step follow.

    Parameters
    ----------
    wrapped
        From `wrap`.
    accelerator
        For DDP.
    hold
        Whether more follow.
    """
    if not hold:
        yield
    elif is_sharded_module(wrapped):
        wrapped.set_requires_gradient_sync(False)  # type: ignore[operator]
        try:
            yield
        finally:
            wrapped.set_requires_gradient_sync(True)  # type: ignore[operator]
    else:
        with accelerator.no_sync(wrapped):
            yield


def is_sharded_module(module: nn.Module) -> bool:
    """Tell whether this process holds shards of the parameters.

    Parameters
    ----------
    module
        Any module.
    """
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def whole(tensor: Any) -> Any:
    """Give the whole of a tensor of which processes hold shards; all processes must call this.

    Parameters
    ----------
    tensor
        Sharded or not; other values are given back.
    """
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_weights(module: nn.Module) -> dict[str, Tensor]:
    """Give the state of a module in whole tensors; all processes must call this.

    Parameters
    ----------
    module
        Sharded or not.
    """
    return {name: whole(tensor).detach() for name, tensor in module.state_dict().items()}


def like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """Cut a whole tensor into shards as another is, if it is.

    Parameters
    ----------
    tensor
        Whole, the same in all processes.
    pattern
        Sharded or not.
    """
    if not isinstance(pattern, DTensor) or not tensor.ndim:
        return tensor
    return distribute_tensor(tensor.to(pattern.device), pattern.device_mesh, pattern.placements)


def load_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Load whole tensors into a module, sharded or not; give the missing and the unexpected names.

    Parameters
    ----------
    module
        Loaded in place.
    weights
        Whole tensors, the same in all processes.

    Raises
    ------
    RuntimeError
        If a shape differs.
    """
    own = module.state_dict()
    placed = {name: like(tensor, own[name]) if name in own else tensor for name, tensor in weights.items()}
    missing, unexpected = module.load_state_dict(placed, strict=False)
    return list(missing), list(unexpected)
