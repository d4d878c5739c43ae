"""Vectors that other programs wrote: read without running anything, turned and placed as they were meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from plain_hooks import recording
from safetensors.torch import save_file
from steering_fixture import untraced
from tolerances import ROUNDED

from workbench.errors import SteeringError
from workbench.steering import Direction
from workbench.steering.plan import file_vectors

WIDTH = 32
ROWS = np.random.default_rng(0).standard_normal((50, WIDTH)).astype(np.float32)


def written(folder: Path, suffix: str, array: np.ndarray) -> Path:
    path, tensor = folder / f"decoder{suffix}", torch.tensor(array).contiguous()
    if suffix == ".npy":
        np.save(path, array)
    elif suffix == ".safetensors":
        save_file({"W_dec": tensor, "b_dec": torch.zeros(WIDTH)}, path)
    else:
        torch.save({"W_dec": tensor, "b_dec": torch.zeros(WIDTH), "step": 3}, path)
    return path


def test_directions_of_music_rfm_are_counted_from_the_last_block(tiny_model, tmp_path):
    """Their directions are a mapping from -1, -2 ... to components (n, d), added to that block's output."""
    blocks = tiny_model.musicgen.decoder.model.decoder.layers
    theirs = {-k: torch.randn(3, tiny_model.d_model) for k in range(1, len(blocks))}
    torch.save(theirs, tmp_path / "theirs.pt")
    for k, components in theirs.items():
        made = Direction.from_file(tiny_model, tmp_path / "theirs.pt", k, key=k, row=1, counted="from_end")
        assert blocks[made.layer] is blocks[k]
        assert made.cosine(Direction.from_numpy(tiny_model, components[1].numpy(), made.layer)) > 0.999999
    for wrong in (0, 1, -len(blocks) - 1):
        with pytest.raises(SteeringError, match="it has layers 0-3"):
            Direction.from_file(tiny_model, tmp_path / "theirs.pt", wrong, key=-1, counted="from_end")


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".pt", ".pth"])
@pytest.mark.parametrize("turned", [False, True], ids=["rows", "columns"])
def test_a_row_of_a_decoder_comes_back_as_a_unit_direction(tiny_model, tmp_path, suffix, turned):
    path = written(tmp_path, suffix, ROWS.T if turned else ROWS)
    key = None if suffix == ".npy" else "W_dec"
    made = Direction.from_file(tiny_model, path, 2, row=17, key=key, name="drums")
    assert np.allclose(made.vector, ROWS[17] / np.linalg.norm(ROWS[17]), **ROUNDED)
    assert (made.layer, made.site, made.name) == (2, "resid_post", "drums")
    assert made.residual_norm == tiny_model.residual_norms()[2]
    assert made.origin == {"method": f"row 17 of {path.name}", "model_id": tiny_model.id}
    assert np.array_equal(file_vectors(path, WIDTH, key=key), ROWS)
    made.at(0.1).check(tiny_model)


def test_one_vector_alone_and_half_precision_are_read(tiny_model, tmp_path):
    torch.save(torch.tensor(ROWS[0]).bfloat16(), tmp_path / "one.pt")
    made = Direction.from_file(tiny_model, tmp_path / "one.pt", 0)
    assert made.vector @ ROWS[0] / np.linalg.norm(ROWS[0]) > 0.9999


def test_a_layer_counted_in_hidden_states_is_the_block_before(tiny_model, tiny_folder, tmp_path):
    musicgen = untraced(tiny_folder)
    ids, states = torch.arange(4 * 9).remainder(64).view(4, 9), torch.ones(1, 3, WIDTH)
    with torch.no_grad(), recording(musicgen) as kept:
        put = {"input_ids": ids, "encoder_hidden_states": states, "use_cache": False}
        hidden = musicgen.decoder(**put, output_hidden_states=True).hidden_states
    path = written(tmp_path, ".npy", ROWS)
    assert len(hidden) == len(tiny_model.layers) + 1
    for index in range(1, len(tiny_model.layers)):
        made = Direction.from_file(tiny_model, path, index, counted="hidden_states")
        assert torch.equal(hidden[index], kept["resid_post"][made.layer][0])
    for index, place in ((0, "embedding"), (len(tiny_model.layers), "behind the LayerNorm")):
        assert not any(torch.equal(hidden[index], one[0]) for one in kept["resid_post"]), place
        with pytest.raises(SteeringError, match="only hidden states 1-3 are outputs of blocks"):
            Direction.from_file(tiny_model, path, index, counted="hidden_states")
    with pytest.raises(SteeringError, match="counted in 'layers'"):
        Direction.from_file(tiny_model, path, 1, counted="layers")


class Planted:
    """What a pickle may do when it is read: here it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".pt", ".npy"])
def test_pickled_objects_are_refused_and_not_run(tiny_model, tmp_path, suffix):
    path, made = tmp_path / f"bad{suffix}", tmp_path / "it ran"
    if suffix == ".pt":
        torch.save({"W_dec": Planted(made)}, path)
    else:
        np.save(path, np.array([Planted(made)], dtype=object))
    with pytest.raises(SteeringError, match=r"cannot be read.*[Oo]bject.*Save plain tensors"):
        Direction.from_file(tiny_model, path, 0)
    assert not made.exists()
    if suffix == ".pt":
        torch.load(path, weights_only=False)
        assert made.exists(), "the trap works"


def test_what_does_not_fit_is_refused_with_what_was_found(tiny_model, tmp_path):
    path = written(tmp_path, ".npy", ROWS[:, :31])
    with pytest.raises(SteeringError, match=r"Vectors of 32 numbers .* has the shape \(50, 31\)"):
        Direction.from_file(tiny_model, path, 0)
    path = written(tmp_path, ".pt", ROWS)
    with pytest.raises(SteeringError, match=r"holds W_dec, b_dec.*as key"):
        Direction.from_file(tiny_model, path, 0)
    with pytest.raises(SteeringError, match="holds W_dec, b_dec"):
        Direction.from_file(tiny_model, path, 0, key="step")
    with pytest.raises(SteeringError, match=r"Row 50 .* has 50 rows"):
        Direction.from_file(tiny_model, path, 0, key="W_dec", row=50)
    with pytest.raises(SteeringError, match="has layers 0-3"):
        Direction.from_file(tiny_model, path, 4, key="W_dec")
    (tmp_path / "x.pkl").write_bytes(b"")
    for name, says in (("x.pkl", "suffix is '.pkl'"), ("none.npy", "cannot be read")):
        with pytest.raises(SteeringError, match=says):
            Direction.from_file(tiny_model, tmp_path / name, 0)
