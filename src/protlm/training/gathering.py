"""Rows of all processes in each of them, with a gradient."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from protlm.training.processes import Processes


def gather_rows(own: Float[Tensor, "n d"], processes: Processes) -> Float[Tensor, "m d"]:
    """Give the rows of all processes, one process behind the other.

    The gradient of a row is the sum of its gradients in all processes, so that losses which are sums over the
    anchors of each process have together the gradient of one process with all rows.

    Parameters
    ----------
    own
        Of this process; equally many in each.
    processes
        All that train together.
    """
    if processes.count == 1:
        return own
    return _GatherRows.apply(own, processes.index, processes.count)  # type: ignore[no-any-return]


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, index: int, count: int) -> Tensor:
        """Give the rows of all processes."""
        ctx.place = slice(index * len(own), (index + 1) * len(own))
        parts = [torch.empty_like(own) for _ in range(count)]
        torch.distributed.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Sum the gradients of all processes; give those of the own rows."""
        whole = gradients[0].contiguous()
        torch.distributed.all_reduce(whole)
        return whole[ctx.place], None, None
