"""Loading: what is measured, what is refused, and that what comes back is the checkpoint and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fixture_model
import numpy as np
import pytest
import torch
from plain_hooks import recording
from tolerances import SUMMED
from tones import tone_clip

from workbench.errors import ModelError
from workbench.model import load as devices
from workbench.model.contract import check_contract
from workbench.model.load import builtin_folder, divergence, load, next_codes
from workbench.model.musicgen import measure_residual_norms
from workbench.model.network import Network
from workbench.sound.clip import Clip


def test_facts_come_from_the_checkpoint(tiny_model: Any) -> None:
    facts = (tiny_model.n_layers, tiny_model.d_model, tiny_model.n_codebooks, tiny_model.codebook_size)
    assert facts == (4, 32, 4, 64)
    assert (tiny_model.rate_hz, tiny_model.frame_rate_hz) == (16_000, 25.0)
    assert tiny_model.layers == range(4)
    assert tiny_model.delays == (0, 1, 2, 3)
    assert tiny_model.max_seconds == pytest.approx(509 / 25)
    told = tiny_model.describe()
    for fact in ("4 blocks x 32", "4 codebooks x 64", "25 frames/s", "16000 Hz", "cpu in float32"):
        assert fact in told


def test_the_id_carries_the_weights(tiny_model: Any, tmp_path: Path) -> None:
    other = load(fixture_model.save_tiny(tmp_path / "tiny", seed=1), device="cpu")
    assert tiny_model.id.startswith("tiny#")
    assert other.id.startswith("tiny#")
    assert other.id != tiny_model.id
    assert other.fingerprint != tiny_model.fingerprint


def test_a_copy_of_the_folder_is_the_same_model_in_every_precision(
    tiny_model: Any, tiny_folder: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(tiny_folder, tmp_path / "tiny")
    model = load(copy, device="cpu", dtype="bfloat16")
    assert (model.id, model.fingerprint) == (tiny_model.id, tiny_model.fingerprint)
    assert model.dtype == torch.bfloat16
    assert model.musicgen.audio_encoder.dtype == torch.float32


def test_a_hub_id_is_loaded_from_the_hub_s_cache(tiny_folder: Path, tmp_path: Path) -> None:
    """In a fresh process, for the hub's library reads where its cache is when it is imported."""
    cached, commit = tmp_path / "models--someone--tiny", "0" * 40
    shutil.copytree(tiny_folder, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    code = (
        "from workbench.model.load import load, weight_files\n"
        "model = load('someone/tiny', device='cpu', dtype='float32')\n"
        "print(model.id, *[file.name for file in weight_files(model.folder)])"
    )
    offline = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["someone/tiny", "model.safetensors"]


def test_the_default_is_the_built_in_model(monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> None:
    assert builtin_folder().parts[-3:] == ("data", "embedded", "model")
    monkeypatch.setattr("workbench.model.load.builtin_folder", lambda: tiny_folder)
    assert load().id.startswith("embedded#")
    monkeypatch.setattr("workbench.model.load.builtin_folder", lambda: tiny_folder / "missing")
    with pytest.raises(ModelError, match="built-in model was asked for"):
        load()


@pytest.mark.parametrize("name", ["nowhere", "/nowhere/at/all", "a/b/c"])
def test_what_is_neither_folder_nor_hub_id_is_named(name: str) -> None:
    with pytest.raises(ModelError, match="neither a folder nor a hub id"):
        load(name)


def test_incomplete_folders_are_named(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no config"):
        load(tmp_path)
    copy = shutil.copytree(tiny_folder, tmp_path / "copy")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot load it"):
        load(copy)


def test_other_kinds_of_model_are_named(tmp_path: Path) -> None:
    from transformers import AutoConfig

    AutoConfig.for_model("t5").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is not a MusicGen"):
        load(tmp_path)


def test_devices_and_precisions_that_do_not_exist_are_named(tiny_folder: Path) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="no such device"):
            load(tiny_folder, device="cuda")
    with pytest.raises(ModelError, match="float11"):
        load(tiny_folder, device="cpu", dtype="float11")


def test_large_models_take_the_precision_that_measures_faster(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = torch.device("cpu")
    assert devices.choose_precision(None, cpu, tiny_model.musicgen)[0] == "float32"
    monkeypatch.setattr(devices, "_SMALL", 0)
    for bf16, int8, best in ((3.0, 2.0, "bfloat16"), (3.0, 6.0, "int8"), (0.8, 1.1, "float32")):
        gains = {"float32": 1.0, "int8": int8, "bfloat16": bf16}
        monkeypatch.setattr(devices, "speeds", lambda _width, gains=gains: gains)
        assert devices.choose_precision(None, cpu, tiny_model.musicgen)[0] == best
    assert devices.choose_precision(None, cpu, tiny_model.musicgen, ["int8"])[0] == "float32"


def test_a_default_precision_must_hardly_move_the_next_codes(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_SMALL", 0)
    monkeypatch.setattr(devices, "speeds", lambda _width: {"float32": 1.0, "int8": 1.1, "bfloat16": 3.0})
    exact = load(tiny_folder, device="cpu", dtype="float32")
    coarse = load(tiny_folder, device="cpu")
    assert coarse.dtype == torch.bfloat16 and "moves the odds of the next codes by" in coarse.notes
    lost = divergence(next_codes(exact), next_codes(coarse))
    assert 0 < lost < 0.02 and divergence(next_codes(exact), next_codes(exact)) == 0
    monkeypatch.setattr("workbench.model.load.MOST_NATS", lost / 2)
    kept = load(tiny_folder, device="cpu")
    assert kept.dtype == torch.float32 and "too far" in kept.notes
    assert torch.equal(next_codes(kept), next_codes(exact))  # not rounded on the way
    assert load(tiny_folder, device="cpu", dtype="bfloat16").dtype == torch.bfloat16  # asked for


def test_the_next_codes_are_those_of_the_model_itself(tiny_model: Any) -> None:
    found = next_codes(tiny_model)
    assert found.shape == (tiny_model.n_codebooks, 8, tiny_model.codebook_size)
    assert torch.allclose(found.exp().sum(-1), torch.ones(found.shape[:2]), **SUMMED)
    assert not torch.equal(found, next_codes(tiny_model, seed=1))


def test_contract_notices_a_residual_that_is_no_bare_tensor(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_contract(tiny_model) < 1e-5
    block = Network.block
    monkeypatch.setattr(
        Network, "block", lambda net, layer: SimpleNamespace(output=[block(net, layer).output])
    )
    with pytest.raises(ModelError, match=r"to return a tensor of shape .* it gave list"):
        check_contract(tiny_model)


def test_contract_notices_a_model_that_hears_the_future(tiny_folder: Path) -> None:
    """Teacher forcing equals generation only when no position sees what comes later."""
    model = load(tiny_folder, device="cpu")
    decoder = model.musicgen.decoder.model.decoder
    handle = decoder.layers[0].register_forward_hook(lambda _m, _a, out: out + out.mean(dim=1, keepdim=True))
    with pytest.raises(ModelError, match="teacher forcing to repeat generation"):
        check_contract(model)
    handle.remove()


def test_contract_notices_another_delay_pattern(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(tiny_folder, device="cpu")
    monkeypatch.setattr(model, "delays", (0, 2, 1, 3))
    with pytest.raises(ModelError, match="delay pattern"):
        check_contract(model)


def test_stereo_works_from_load_to_sound(tmp_path: Path) -> None:
    from workbench.generation.generate import generate

    decoder = fixture_model.decoder_config(num_codebooks=8, audio_channels=2)
    model = load(fixture_model.save(fixture_model.build(decoder=decoder), tmp_path / "stereo"), device="cpu")
    assert model.delays == (0, 0, 1, 1, 2, 2, 3, 3)
    take = generate(model, "a calm tune", seconds=0.6, progress=False)
    assert take.codes.shape == (8, 15)
    assert take.clip.seconds == pytest.approx(0.6)
    codes = model.encode(Clip(tone_clip(1, 0), 16_000))
    assert codes.shape == (8, 50)
    assert torch.equal(codes[0::2], codes[1::2])


def test_encode_resamples_and_decode_returns_the_length(tiny_model: Any) -> None:
    clip = Clip(tone_clip(1, 0, rate_hz=44_100), 44_100)
    codes = tiny_model.encode(clip)
    assert codes.shape == (4, 50)
    assert codes.dtype == torch.int64
    assert tiny_model.decode(codes).seconds == pytest.approx(2.0)
    short, long = codes[:, :10], codes
    sounds = tiny_model.decode_batch([short, long, short])
    assert [sound.seconds for sound in sounds] == pytest.approx([0.4, 2.0, 0.4])
    alone = tiny_model.decode(short).samples  # the two short ones are decoded together
    assert all(np.allclose(sounds[place].samples, alone, **SUMMED) for place in (0, 2))


def test_different_codes_sound_different(tiny_model: Any) -> None:
    codes = torch.zeros(4, 25, dtype=torch.long)
    assert tiny_model.decode(codes) != tiny_model.decode(codes + 1)


def test_residual_norms_are_mean_norms_of_neutral_generations(tiny_model: Any) -> None:
    from workbench.generation.generate import generate

    measured = measure_residual_norms(tiny_model)
    asked: dict[str, Any] = {"seed": [0, 1, 2, 3], "seconds": 2.0, "guidance": 3.0, "top_k": 250}
    with recording(tiny_model.musicgen) as kept:
        generate(tiny_model, ["a tune", "a piece of music", "a song", "a track"], progress=False, **asked)
    for layer, steps in enumerate(kept["resid_post"]):
        assert len(steps) == 50 + 3, "the frames and the delay"
        cond = torch.cat([held[:4, -1:] for held in steps[1:]], 1)  # without the first step, that of BOS
        assert np.isclose(measured[layer], cond.norm(dim=-1).mean(), **SUMMED)
    assert np.array_equal(tiny_model.residual_norms(), measured)


def test_shipped_norms_come_before_measured_ones(tiny_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_folder, tmp_path / "tiny")
    (copy / "workbench.json").write_text(json.dumps({"residual_norms": [1.0, 2.0, 3.0, 4.0], "other": 1}))
    assert load(copy, device="cpu").residual_norms().tolist() == [1.0, 2.0, 3.0, 4.0]
