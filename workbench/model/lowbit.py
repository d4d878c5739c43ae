"""Low precision on a CPU: linear layers whose weights are int8 or int4, and whose results are float32.

A step of one guided clip has two rows, so its cost is that of reading every weight once: fewer bytes are what
makes it faster. Everything else stays float32, and the residual stream with it, so that edits, receipts and
captures mean what they always mean.

- int8: one scale per output channel. Activations x (d,) become two digits, x = s (hi + lo / 126) with whole
  hi and lo of at most 63 and a scale s per row; one integer product reads the weights once for both. It
  rounds a row to 6e-5 of its largest number. One digit would round to 8e-3 of it, in which outlier channels
  drown the rest. As whole numbers add up exactly, no row depends on its neighbours. Eight bits a digit would
  overflow the 16-bit sums of processors without VNNI.
- int4: a scale and an offset per 32 inputs of an output channel, activations rounded to bfloat16. The heads,
  and layers whose sizes do not fit, are int8.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import time
import warnings
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

LOW_BIT = ("int8", "int4")
GROUP = 32  # inputs that share scale and offset in int4
DIGIT, BASE = 63, 126  # the largest digit, and how many of the second make one of the first
# Not on ARM, nor in a torch without the types that it calls deprecated since 2.13; then, torch's own int8
# product, which takes 1.6 x the time here and rounds activations to bfloat16.
_PRODUCT: Any = getattr(torch.ops.quantized, "linear_with_input_q_dq_qweight_dq_output_fp32", None)
TWO_DIGITS = "fbgemm" in torch.backends.quantized.supported_engines and _PRODUCT is not None
_REPEATS = 8
_NUMBERS = count()


class LowBitLinear(nn.Module):
    """A linear layer (in_features -> out_features) with packed weights; float32 in, float32 out.

    >>> linear = torch.nn.Linear(64, 32)
    >>> low, x = LowBitLinear(linear, "int8"), torch.ones(2, 64)
    >>> bool((low(x) - linear(x)).norm() < 0.02 * linear(x).norm())
    True
    """

    def __init__(self, linear: nn.Linear, precision: str) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        fits = self.in_features % GROUP == 0 and self.out_features % 16 == 0
        self.precision = precision if fits else "int8"
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.float(), requires_grad=False)
        weight = linear.weight.detach().float()
        self.packed: Any = _packed_int4(weight) if self.precision == "int4" else _packed_int8(weight)
        self.number = next(_NUMBERS)
        _LAYERS[self.number] = self

    def forward(self, x: Tensor) -> Tensor:
        """Return x (..., in_features) times the weights, plus the bias: (..., out_features)."""
        if self.precision == "int8" and TWO_DIGITS:
            y = self._two_digits(x)
        else:
            rows = x.reshape(-1, self.in_features).bfloat16()
            if self.precision == "int4":
                codes, scales = self.packed
                y = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, codes, GROUP, scales)
            else:
                y = torch._weight_int8pack_mm(rows, *self.packed)
            y = y.float().view(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias

    def _two_digits(self, x: Tensor) -> Tensor:
        """Return x (..., in) times int8 weights (..., out), the digits of x whole numbers from -63 to 63."""
        scale = x.abs().amax(-1, keepdim=True).clamp_min_(1e-30).div_(DIGIT)
        exact = x / scale
        high = exact.round()
        digits = torch.stack([high, exact.sub_(high).mul_(BASE)])  # the product rounds the second one
        if torch.compiler.is_compiling():
            y = _int8_product(digits, self.number, self.out_features)
        else:
            y = _PRODUCT(digits, 1.0, DIGIT + 1, self.packed)
        return torch.add(y[0], y[1], alpha=1 / BASE).mul_(scale)

    def extra_repr(self) -> str:
        """Return sizes and precision, for `print(model)`."""
        return f"{self.in_features}, {self.out_features}, {self.precision}"


_LAYERS: WeakValueDictionary[int, LowBitLinear] = WeakValueDictionary()


@torch.library.custom_op("workbench::int8_product", mutates_args=())
def _int8_product(digits: Tensor, number: int, width: int) -> Tensor:
    """Return whole digits (..., in) times the weights of layer `number`: (..., width).

    `torch.compile` cannot carry packed weights, which are no tensor, but a number by which to find them.
    """
    product: Tensor = _PRODUCT(digits, 1.0, DIGIT + 1, _LAYERS[number].packed)
    return product


@_int8_product.register_fake
def _(digits: Tensor, number: int, width: int) -> Tensor:
    return digits.new_empty((*digits.shape[:-1], width))


def _packed_int8(weight: Tensor) -> Any:
    """Return `weight` (out, in) in whole numbers up to 127, one scale a row, as the product reads them."""
    scale = weight.abs().amax(1).clamp_min(1e-30) / 127
    whole = (weight / scale[:, None]).round_().to(torch.int8)
    if not TWO_DIGITS:
        return whole, scale.bfloat16()
    scales, zeros = scale.double(), torch.zeros(len(scale), dtype=torch.long)
    with warnings.catch_warnings():  # torch means to drop this type; without it, TWO_DIGITS is False
        warnings.simplefilter("ignore")
        typed = torch._make_per_channel_quantized_tensor(whole, scales, zeros, 0)
    engine = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        packed = torch.ops.quantized.linear_prepack(typed, None)
    finally:
        torch.backends.quantized.engine = engine
    typed.untyped_storage().resize_(0)  # `packed` keeps it, to be unpacked again, as large as itself
    return packed


def _packed_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return codes 0 to 15 between the least and the largest weight of each group, scales and offsets."""
    groups = weight.view(len(weight), -1, GROUP)
    least, most = groups.amin(-1), groups.amax(-1)
    scale = ((most - least) / 15).clamp_min(1e-9)
    codes = ((groups - least[..., None]) / scale[..., None]).round_().clamp_(0, 15).int().view_as(weight)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    return packed, torch.stack([scale, least + 8 * scale], -1).transpose(0, 1).contiguous().bfloat16()


def quantise(decoder: nn.Module, precision: str) -> None:
    """Replace the linear layers of `decoder`, one after another, so that never two copies of all exist."""
    for path in [path for path, one in decoder.named_modules() if isinstance(one, nn.Linear)]:
        linear: Any = decoder.get_submodule(path)
        low = "int8" if path.startswith("lm_heads.") else precision
        decoder.set_submodule(path, LowBitLinear(linear, low))
        _forget(linear.weight)


def _forget(weight: Tensor) -> None:
    """Let go of the pages of a weight that nobody will read: a mapped file keeps them until it is closed."""
    if sys.platform == "linux":
        page, start = mmap.PAGESIZE, weight.data_ptr()
        # Whole pages only, for the others are its neighbours' too.
        first, end = -(-start // page) * page, (start + weight.nbytes) // page * page
        if end > first:
            place, size = ctypes.c_void_p(first), ctypes.c_size_t(end - first)
            ctypes.CDLL(None).madvise(place, size, mmap.MADV_DONTNEED)


def speeds(width: int) -> dict[str, float]:
    """Return how many times faster than float32 bfloat16 and int8 are here, at a product of a guided step.

    Its weights are (4 width, width), the feed-forward part of a block, and it has two rows.
    """
    linear = nn.Linear(width, 4 * width, bias=False).requires_grad_(False)
    rows = torch.ones(2, width)
    ways: dict[str, tuple[nn.Module, Tensor]] = {
        "float32": (linear, rows),
        "int8": (LowBitLinear(linear, "int8"), rows),
        "bfloat16": (nn.Linear(width, 4 * width, bias=False).bfloat16(), rows.bfloat16()),
    }
    seconds = dict.fromkeys(ways, float("inf"))
    with torch.no_grad():
        for _ in range(_REPEATS):  # in turns, and the least time counts: other programs can only add to it
            for name, (layer, values) in ways.items():
                start = time.perf_counter()
                layer(values)
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    return {name: seconds["float32"] / max(taken, 1e-9) for name, taken in seconds.items()}
