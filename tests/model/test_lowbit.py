"""Low precision on a CPU: what a layer computes, what the model says of it, and what loading costs.

The laws of steering hold in each precision in tests/generation/test_engine_laws.py, teacher forcing in
tests/model/test_capture.py.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import fixture_model
import pytest
import torch
from steering_fixture import direction

from workbench.generation.generate import generate
from workbench.model import load as loading
from workbench.model import lowbit
from workbench.model.capture import capture
from workbench.model.load import divergence, load, next_codes
from workbench.model.lowbit import GROUP, LowBitLinear, speeds
from workbench.probing import fit_probes

# Of the norm of a product: what the activations' rounding leaves (two digits; bfloat16, 8 bits a number).
ROUNDED_ACTIVATIONS = {"int8": 4e-4, "int8 without two digits": 1e-2, "int4": 1e-2}


@pytest.fixture(params=list(ROUNDED_ACTIVATIONS))
def scheme(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each kernel, on any machine that has it."""
    if request.param == "int8" and not lowbit.TWO_DIGITS:
        pytest.skip("this torch has no fbgemm")
    monkeypatch.setattr(lowbit, "TWO_DIGITS", request.param == "int8")
    return str(request.param)


def layer(bias: bool = True) -> torch.nn.Linear:
    """A linear layer 64 -> 48 of known weights."""
    made = torch.nn.Linear(64, 48, bias=bias).requires_grad_(False)
    made.weight.copy_(torch.randn(48, 64, generator=torch.Generator().manual_seed(0)))
    return made


def rounded(weight: torch.Tensor, precision: str) -> torch.Tensor:
    """The weights that are meant: 255 steps a row for int8, 16 steps a group between its ends for int4."""
    if precision == "int8":
        scale = weight.abs().amax(1, keepdim=True) / 127
        return (weight / scale).round() * scale
    groups = weight.view(len(weight), -1, GROUP)
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    step = (high - low) / 15
    return (((groups - low) / step).round() * step + low).view_as(weight)


def test_a_product_is_that_of_the_rounded_weights_also_beside_outliers(scheme: str) -> None:
    linear, precision = layer(), scheme.split()[0]
    x = torch.randn(3, 5, 64, generator=torch.Generator().manual_seed(1))
    x[..., 7] *= 100  # as real transformers have them
    x[0, 0] = 0
    found = LowBitLinear(linear, precision)(x)
    exact = torch.nn.functional.linear(x, rounded(linear.weight, precision), linear.bias)
    assert found.shape == (3, 5, 48) and found.dtype == torch.float32
    assert torch.equal(found[0, 0], linear.bias)  # a row of zeros is no number divided by 0
    assert float((found - exact).norm() / exact.norm()) < ROUNDED_ACTIVATIONS[scheme]


def test_a_push_on_one_row_does_not_move_another(scheme: str) -> None:
    low = LowBitLinear(layer(), scheme.split()[0])
    x = torch.randn(2, 1, 64, generator=torch.Generator().manual_seed(2))
    pushed = x.clone()
    pushed[0] += 1000 * torch.randn(64, generator=torch.Generator().manual_seed(3))
    assert torch.equal(low(pushed)[1], low(x)[1])
    assert torch.equal(low(x[1:]), low(x)[1:])  # nor does the size of the batch
    assert not torch.equal(low(pushed)[0], low(x)[0])


def test_int4_leaves_what_does_not_fit_in_groups_to_int8() -> None:
    low = LowBitLinear(torch.nn.Linear(GROUP + 2, 16), "int4")
    assert low.precision == "int8"
    assert LowBitLinear(torch.nn.Linear(GROUP, 16), "int4").precision == "int4"


def test_the_kernel_that_is_taken_for_int8_beats_float32() -> None:
    """At musicgen-small's width, where reading the weights is what costs."""
    assert speeds(1024)["int8"] > 1.2


@pytest.mark.parametrize(("precision", "most"), [("int8", 1e-3), ("int4", 0.05)])
def test_the_built_in_model_keeps_its_odds_in_low_precision(precision: str, most: float) -> None:
    """Nats per code: far below what a default may cost in int8, and near it in int4."""
    exact, low = (load("embedded", device="cpu", dtype=one) for one in ("float32", precision))
    assert 0 < divergence(next_codes(exact), next_codes(low)) < most


def test_int8_that_is_too_far_gives_way_to_the_next_precision(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_SMALL", 0)
    monkeypatch.setattr(loading, "speeds", lambda _width: {"float32": 1.0, "int8": 6.0, "bfloat16": 3.0})
    assert load(tiny_folder, device="cpu").precision == "int8"
    monkeypatch.setattr(loading, "MOST_NATS", 0.0)
    kept = load(tiny_folder, device="cpu")
    assert kept.precision == "float32"
    assert "int8 moves" in kept.notes and "bfloat16 moves" in kept.notes


def test_model_take_store_probe_and_direction_say_the_precision(tiny_folder: Path, tiny_dataset: Any) -> None:
    model: Any = load(tiny_folder, device="cpu", dtype="int8")
    assert (model.precision, model.dtype) == ("int8", torch.float32)
    exact: Any = load(tiny_folder, device="cpu", dtype="float32")
    assert model.n_parameters == exact.n_parameters and "cpu in int8" in model.describe()
    acts = capture(model, tiny_dataset, seconds=0.4, progress=False, cache=False)
    probe = fit_probes(acts, folds=2, layers=[1], shuffles=0)[1]
    jazz = probe.direction("jazz")
    take = generate(model, "a tune", steering=jazz.at(0.1), seconds=0.2, progress=False)
    told = [acts.data.attrs["dtype"], probe.precision, jazz.origin["precision"], take.versions["precision"]]
    assert told == ["int8"] * 4 and (jazz - probe.direction("rock")).origin["precision"] == "int8"


def test_a_direction_of_another_precision_is_used_and_told(tiny_folder: Path) -> None:
    model: Any = load(tiny_folder, device="cpu", dtype="int8")
    push = direction(model, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generate(model, "a tune", steering=push.at(0.1), seconds=0.2, progress=False)
    push.origin["precision"] = "float32"  # type: ignore[index]
    with pytest.warns(UserWarning, match="read in float32 acts on a model in int8"):
        take = generate(model, "a tune", steering=push.at(0.1), seconds=0.2, progress=False)
    assert take.receipt.ok and take.receipt.changed


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_in_int8_takes_little_more_memory_than_its_file(tmp_path: Path) -> None:
    """A cut of musicgen-small's shape; what the imports take is not counted."""
    decoder = fixture_model.decoder_config(
        num_hidden_layers=6, hidden_size=1024, ffn_dim=4096, num_attention_heads=16
    )
    folder = fixture_model.save(fixture_model.build(decoder=decoder), tmp_path / "cut")
    code = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from workbench.model.load import load\n"
        "status = Path('/proc/self/status')\n"  # getrusage counts what the parent had before the fork
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', status.read_text())[1])\n"
        "load(sys.argv[2], device='cpu', dtype='float32')\n"  # imports what is imported late
        "before = peak()\n"
        "model = load(sys.argv[1], device='cpu', dtype='int8')\n"
        "print((peak() - before) * 1024)"
    )
    tiny = fixture_model.save_tiny(tmp_path / "tiny")
    told = [sys.executable, "-c", code, str(folder), str(tiny)]
    done = subprocess.run(told, capture_output=True, text=True, check=True)
    ratio = int(done.stdout) / (folder / "model.safetensors").stat().st_size
    assert 0.5 < ratio < 1.2  # 1.3 was wanted; the file is read once, and the copy is a quarter of it
