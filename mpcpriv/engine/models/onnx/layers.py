"""ONNX's products, normalisations and pooling in torch's functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch.nn import functional as F  # noqa: N812 - torch's own name

from mpcpriv.engine.models.kinds import MASKED
from mpcpriv.engine.models.onnx.call import Call, Translation

# Windows


def _spatial(call: Call, x: torch.Tensor) -> int:
    dims = x.dim() - 2
    if dims not in (1, 2):
        raise call.refused(f"{dims} spatial dimensions; one or two are offered")
    return dims


def _ints(call: Call, name: str, dims: int, default: int = 1) -> list[int]:
    return list(call.attribute(name) or [default] * dims)


def _pads(
    call: Call, sizes: Sequence[int], kernel: Sequence[int], steps: Sequence[int], gaps: Sequence[int]
) -> tuple[list[int], list[int]]:
    """What is padded before and behind each spatial dimension (ONNX: `pads` or `auto_pad`)."""
    dims, rule = len(kernel), call.attribute("auto_pad", "NOTSET")
    if rule == "VALID":
        return [0] * dims, [0] * dims
    if rule == "NOTSET":
        pads = _ints(call, "pads", 2 * dims, 0)
        return pads[:dims], pads[dims:]
    small, large = [], []
    for n, k, s, g in zip(sizes, kernel, steps, gaps, strict=True):
        total = max((-(-n // s) - 1) * s + g * (k - 1) + 1 - n, 0)
        small.append(total // 2)
        large.append(total - total // 2)
    return (small, large) if rule == "SAME_UPPER" else (large, small)


def _sides(before: Sequence[int], behind: Sequence[int]) -> list[int]:
    """As `torch.nn.functional.pad` lists them: the last dimension first."""
    return [side for pair in zip(reversed(before), reversed(behind), strict=True) for side in pair]


# Products


def _gemm(call: Call) -> Any:
    a, b = call.tensor(0), call.tensor(1)
    alpha, beta = call.attribute("alpha", 1.0), call.attribute("beta", 1.0)
    a = a.t() if call.attribute("transA", 0) else a
    bias = call.optional(2)
    if bias is not None and beta != 1:
        bias = bias * beta
    if alpha == 1 and call.attribute("transB", 0) and (bias is None or bias.dim() == 1):
        return F.linear(a, b, bias)
    result = a.matmul(b.t() if call.attribute("transB", 0) else b)
    result = result if alpha == 1 else result * alpha
    return result if bias is None else result + bias


def _conv(call: Call) -> Any:
    x, weight, bias = call.tensor(0), call.tensor(1), call.optional(2)
    dims = _spatial(call, x)
    kernel = list(weight.shape[2:])
    steps, gaps = _ints(call, "strides", dims), _ints(call, "dilations", dims)
    before, behind = _pads(call, x.shape[2:], kernel, steps, gaps)
    if before != behind:
        x, before = F.pad(x, _sides(before, behind)), [0] * dims
    convolve: Any = F.conv1d if dims == 1 else F.conv2d
    return convolve(x, weight, bias, steps, before, gaps, call.attribute("group", 1))


def _conv_transpose(call: Call) -> Any:
    x, weight, bias = call.tensor(0), call.tensor(1), call.optional(2)
    dims = _spatial(call, x)
    steps, gaps = _ints(call, "strides", dims), _ints(call, "dilations", dims)
    extra = _ints(call, "output_padding", dims, 0)
    spans = [g * (k - 1) + 1 for g, k in zip(gaps, weight.shape[2:], strict=True)]
    whole = [s * (n - 1) + e + k for s, n, e, k in zip(steps, x.shape[2:], extra, spans, strict=True)]
    wanted, rule = call.attribute("output_shape"), call.attribute("auto_pad", "NOTSET")
    if wanted is None and rule.startswith("SAME"):
        wanted = [n * s for n, s in zip(x.shape[2:], steps, strict=True)]
    if wanted is None:
        before, behind = _pads(call, x.shape[2:], spans, steps, [1] * dims)
    else:
        totals = [n - w for n, w in zip(whole, wanted, strict=True)]
        small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
        before, behind = (small, large) if rule == "SAME_UPPER" else (large, small)
    if min(*before, *behind) < 0:
        raise call.refused("an output larger than the transposed convolution is not offered")
    transpose: Any = F.conv_transpose1d if dims == 1 else F.conv_transpose2d
    even = before == behind
    result = transpose(x, weight, bias, steps, before if even else 0, extra, call.attribute("group", 1), gaps)
    return result if even else F.pad(result, [-side for side in _sides(before, behind)])


# Pooling


def _max_pool(call: Call) -> Any:
    call.single_output()
    x = call.tensor(0)
    dims = _spatial(call, x)
    kernel = _ints(call, "kernel_shape", dims)
    steps, gaps = _ints(call, "strides", dims), _ints(call, "dilations", dims)
    before, behind = _pads(call, x.shape[2:], kernel, steps, gaps)
    if before != behind or any(2 * p > k for p, k in zip(before, kernel, strict=True)):
        # Below everything that a model computes, above the end of the range: never the maximum.
        x, before = F.pad(x, _sides(before, behind), value=MASKED), [0] * dims
    pool: Any = F.max_pool1d if dims == 1 else F.max_pool2d
    return pool(x, kernel, steps, before, gaps, bool(call.attribute("ceil_mode", 0)))


def _average_pool(call: Call) -> Any:
    x = call.tensor(0)
    dims = _spatial(call, x)
    kernel, steps = _ints(call, "kernel_shape", dims), _ints(call, "strides", dims)
    call.only("dilations", [1] * dims)
    before, behind = _pads(call, x.shape[2:], kernel, steps, [1] * dims)
    ceil, counted = bool(call.attribute("ceil_mode", 0)), bool(call.attribute("count_include_pad", 0))
    pool: Any = F.avg_pool1d if dims == 1 else F.avg_pool2d
    if before == behind and all(2 * p <= k for p, k in zip(before, kernel, strict=True)):
        return pool(x, kernel, steps, before, ceil, counted)
    if ceil:
        raise call.refused("ceil_mode with uneven pads is not offered")
    sides = _sides(before, behind)
    result = pool(F.pad(x, sides), kernel, steps)
    if counted:
        return result
    share = pool(F.pad(torch.ones(1, 1, *x.shape[2:]), sides), kernel, steps)
    return result * (1 / share)


def _global(call: Call) -> tuple[torch.Tensor, list[int]]:
    x = call.tensor(0)
    return x, list(range(2, x.dim()))


def _global_average_pool(call: Call) -> Any:
    x, dims = _global(call)
    return x.mean(dims, keepdim=True)


def _global_max_pool(call: Call) -> Any:
    x, dims = _global(call)
    return x.amax(dims, keepdim=True)


# Normalisation


def _batch_norm(call: Call) -> Any:
    if call.attribute("training_mode", 0) or any(call.node.output[1:]):
        raise call.refused("statistics of the batch outside training are not offered (training_mode=1)")
    call.only("spatial", 1)
    x, weight, bias, mean, variance = (call.tensor(i) for i in range(5))
    momentum = 1 - call.attribute("momentum", 0.9)  # ONNX's weighs the old statistics, torch's the new
    return F.batch_norm(
        x, mean, variance, weight, bias, call.training, momentum, call.attribute("epsilon", 1e-5)
    )


def _instance_norm(call: Call) -> Any:
    x, weight, bias = (call.tensor(i) for i in range(3))
    return F.instance_norm(x, weight=weight, bias=bias, eps=call.attribute("epsilon", 1e-5))


def _group_norm(call: Call) -> Any:
    x, weight, bias = (call.tensor(i) for i in range(3))
    groups = call.attribute("num_groups")
    if call.opset < 21:  # a weight for each group; later for each channel
        each = x.shape[1] // groups
        weight, bias = (t.unsqueeze(1).expand(groups, each).reshape(-1) for t in (weight, bias))
    return F.group_norm(x, groups, weight, bias, call.attribute("epsilon", 1e-5))


def _layer_norm(call: Call) -> Any:
    call.single_output()
    x, weight, bias = call.tensor(0), call.tensor(1), call.optional(2)
    shape = list(x.shape)[call.attribute("axis", -1) :]
    eps = call.attribute("epsilon", 1e-5)
    if list(weight.shape) == shape and (bias is None or list(bias.shape) == shape):
        return F.layer_norm(x, shape, weight, bias, eps)
    result = F.layer_norm(x, shape, None, None, eps) * weight
    return result if bias is None else result + bias


def _rms_norm(call: Call) -> Any:
    x, weight = call.tensor(0), call.tensor(1)
    shape = list(x.shape)[call.attribute("axis", -1) :]
    return F.rms_norm(x, shape, None, call.attribute("epsilon", 1e-5)) * weight


def _lp_norm(call: Call) -> Any:
    x, order = call.tensor(0), call.attribute("p", 2)
    return x / torch.linalg.vector_norm(x, order, call.attribute("axis", -1), keepdim=True)


def _softmax(function: Any) -> Translation:
    def translate(call: Call) -> Any:
        x = call.tensor(0)
        if call.opset >= 13:
            return function(x, call.attribute("axis", -1))
        axis = call.attribute("axis", 1) % x.dim()
        if axis != x.dim() - 1:
            # It is over all dimensions from the axis on, where onnx's reference takes the axis alone.
            raise call.refused("before version 13 it is offered over the last axis only")
        return function(x, axis)

    return translate


def _dropout(call: Call) -> Any:
    call.single_output()
    if call.number(2, False):
        raise call.refused("it drops outside training (training_mode is true), which is not offered")
    ratio = call.attribute("ratio")
    return F.dropout(call.tensor(0), call.number(1, 0.5) if ratio is None else ratio, call.training)


LAYERS: Final[dict[str, Translation]] = {
    "Gemm": _gemm,
    "MatMul": lambda c: c.tensor(0).matmul(c.tensor(1)),
    "Einsum": lambda c: torch.einsum(c.attribute("equation"), *(c.tensor(i) for i in range(len(c.inputs)))),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "LpNormalization": _lp_norm,
    "Softmax": _softmax(torch.softmax),
    "LogSoftmax": _softmax(torch.log_softmax),
    "Dropout": _dropout,
}
"""By ONNX's name."""
