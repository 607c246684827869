"""Tensors without memory behave like real ones, except for their values."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.estimate.shape_tensors import NeedsValues, ShapeMode, ShapeTensor, storage_of, to_shape_tensors


def without_memory(*shape: int, dtype: torch.dtype = torch.float32) -> ShapeTensor:
    return ShapeTensor(torch.empty(shape, dtype=dtype, device="meta"))


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x @ x.transpose(1, 2),
        lambda x: x[:, 1:, None].expand(-1, -1, 4, -1),
        lambda x: F.softmax(x, dim=-1, dtype=torch.float64),
        lambda x: F.gelu(x).to(torch.bfloat16),
        lambda x: x.split(2, dim=2)[1].contiguous(),
        lambda x: torch.cat([x, torch.zeros(2, 1, 6)], dim=1).sum(1),
        lambda x: x.max(dim=-1).indices,
        lambda x: F.layer_norm(x, (6,)).permute(2, 0, 1).reshape(3, -1),
        lambda x: F.cross_entropy(x.flatten(0, 1), torch.arange(10) % 6),
        lambda x: (x + 1).unsqueeze_(0),
        lambda x: (x[:1] + 1).squeeze_(0),
        lambda x: (x + 1).transpose_(0, 1),
        lambda x: x.quantile(0.5),
        lambda x: x.masked_fill(torch.ones(2, 5, 1, dtype=torch.bool), 0.0),
    ],
)
def test_results_have_the_shape_of_real_ones(operation):
    real = operation(torch.randn(2, 5, 6))
    with ShapeMode():
        result = operation(without_memory(2, 5, 6))
    assert isinstance(result, ShapeTensor) and result.device == real.device
    assert (result.shape, result.dtype, result.stride()) == (real.shape, real.dtype, real.stride())


def test_what_is_created_inside_has_no_memory():
    with ShapeMode():
        for tensor in (torch.tensor([1, 2]), torch.zeros(3), torch.arange(4), torch.ones(2) * torch.tensor(2.0)):
            assert isinstance(tensor, ShapeTensor)


def test_changes_in_place_and_views_share_their_storage():
    x = without_memory(4, 4)
    assert x.add_(1.0) is x
    assert storage_of(x.view(16)) is storage_of(x) is storage_of(x[1:].t())
    assert storage_of(x + 1) is not storage_of(x)


def test_other_data_is_other_data():
    x = without_memory(4, 4)
    x.data = without_memory(2, 2).to(torch.bfloat16)
    assert (x + 1).dtype == torch.bfloat16 and x.sum(1).shape == (2,) and storage_of(x).nbytes() == 8
    layer = nn.Linear(3, 2, device="meta")
    to_shape_tensors(layer)
    layer.to(torch.bfloat16)
    assert layer(without_memory(1, 3).to(torch.bfloat16)).dtype == torch.bfloat16


def test_autocast_and_gradients():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2, bias=False))
    model[2].weight = model[0].weight  # tied
    model[0].bias.requires_grad_(False)
    to_shape_tensors(model)
    assert model[2].weight is model[0].weight and isinstance(model[0].weight, nn.Parameter)
    with ShapeMode(), torch.autocast("cpu", torch.bfloat16):
        out = model(torch.ones(3, 8))
        assert out.dtype == torch.bfloat16
        out.float().sum().backward()
    assert model[0].weight.grad.shape == (8, 8) and model[0].weight.grad.dtype == torch.float32
    assert model[0].bias.grad is None


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).all()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.equal(x, x + 1),
        lambda x: x.unique(),
    ],
)
def test_reading_values_is_an_error(operation):
    with ShapeMode(), pytest.raises(NeedsValues):
        operation(without_memory(3))
