"""A torch model as it is exported: a plain copy, whatever the training wrapped it in."""

from __future__ import annotations

import copy
import itertools

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils import _pytree as pytree

from activsparse.errors import ActivsparseError
from activsparse.train.sparsify.hooks import unwrapped

__all__ = ["bake"]


@torch.no_grad()
def bake(model: nn.Module) -> nn.Module:
    """A copy of `model` on the CPU in evaluation mode, its weights plain parameters.

    Wrappers of torch.compile and of data parallelism are left out; weights that are computed in
    each forward pass (pruned, normalised or parametrised ones) are computed once.

    Raises:
        ActivsparseError: weights without values, or something in the model cannot be copied.
    """
    model = unwrapped(model)
    name = type(model).__name__
    for key, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_meta or nn.parameter.is_lazy(tensor):
            raise ActivsparseError(
                f"{name}: {key} has no values yet (it is on the meta device, or lazy); load the "
                "weights or run the model once before exporting it"
            )
    # torch refuses to copy tensors that autograd computed, such as pruned weights.
    memo = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in pytree.tree_leaves(list(module.__dict__.values()))
        if isinstance(value, Tensor) and value.grad_fn is not None
    }
    try:
        baked = copy.deepcopy(model, memo).cpu().eval()
    except Exception as error:  # whatever a stranger's attribute raises
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise ActivsparseError(
            f"{name} cannot be copied for the export ({cause}); take what cannot be copied off its "
            "modules"
        ) from error
    for module in list(baked.modules()):
        for key, child in list(module._modules.items()):
            if child is not None:
                module._modules[key] = unwrapped(child)
        _compute_weights(module)
    return baked


def _compute_weights(module: nn.Module) -> None:
    if parametrize.is_parametrized(module):
        assert isinstance(module.parametrizations, nn.ModuleDict)
        # Not remove_parametrizations, which takes the property off the class that the original and
        # its copy share.
        weights = {name: getattr(module, name) for name in module.parametrizations}
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module._modules["parametrizations"]
        for name, value in weights.items():
            module.register_parameter(name, nn.Parameter(value.detach().clone()))
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]
        elif isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
