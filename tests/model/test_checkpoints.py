"""A checkpoint that is not whole is refused, by name; what loads is what is stored and nothing else."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fixture_model
import pytest
import torch
from safetensors.torch import load_file, save_file

from workbench.errors import ModelError
from workbench.generation.take import differences, environment
from workbench.model import contract
from workbench.model.conditioning import TextStates
from workbench.model.contract import check_contract, settle_codec
from workbench.model.folders import folder_fingerprint, module_fingerprint
from workbench.model.load import builtin_folder, choose_device, choose_precision, load
from workbench.model.sampling import Sampling, draw

Weights = dict[str, torch.Tensor]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 123456\n"


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    """The tiny model's folder, to be damaged."""
    return shutil.copytree(tiny_folder, tmp_path / "copy")


def refused(folder: Path, pattern: str, **settings: Any) -> None:
    """Assert that a folder is refused with a message of one line that names `pattern`."""
    with pytest.raises(ModelError, match=pattern) as caught:
        load(folder, **{"device": "cpu", "check": False, **settings})
    assert "\n" not in str(caught.value) and "PyTorch" not in str(caught.value)


def rewrite(folder: Path, edit: Callable[[Weights], Weights]) -> None:
    """Change the stored weights."""
    path = folder / "model.safetensors"
    save_file(edit(load_file(path)), path, metadata={"format": "pt"})


def configure(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change config.json."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config))


def without(part: str) -> Callable[[Weights], Weights]:
    return lambda weights: {key: value for key, value in weights.items() if part not in key}


def renamed(old: str, new: str) -> Callable[[Weights], Weights]:
    return lambda weights: {key.replace(old, new): value for key, value in weights.items()}


def prefixed(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: {prefix + key: value for key, value in weights.items()}


def decoder_only(prefix: str) -> Callable[[Weights], Weights]:
    own = "decoder."
    return lambda weights: {
        prefix + key.removeprefix(own): value for key, value in weights.items() if key.startswith(own)
    }


def with_lora(weights: Weights) -> Weights:
    return {**weights, "decoder.model.decoder.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(2, 32)}


def shorter_heads(weights: Weights) -> Weights:
    return {key: value[:10].clone() if "lm_heads.0" in key else value for key, value in weights.items()}


KEYS: dict[str, tuple[Callable[[Weights], Weights], str]] = {
    "data-parallel": (prefixed("module."), r"220 missing .*, 219 unexpected .*'module\.', as data-parallel"),
    "compiled": (prefixed("_orig_mod."), r"'_orig_mod\.', as torch\.compile .*Save model\._orig_mod"),
    "compiled part": (
        renamed("decoder.model.", "decoder._orig_mod.model."),
        r"'_orig_mod\.', as torch\.compile",
    ),
    "layer": (
        without("decoder.layers.2."),
        r"16 missing \(decoder\.model\.decoder\.layers\.2.*random numbers",
    ),
    "heads": (without("lm_heads"), r"4 missing \(decoder\.lm_heads\.0\.weight, .*random numbers"),
    "text encoder": (without("text_encoder."), "nothing of text_encoder is there"),
    "codec": (without("audio_encoder."), "nothing of audio_encoder is there"),
    "adapter": (with_lora, r"1 unexpected \(.*lora_A\.weight\).*not merged.*Merge it first"),
    "shape": (
        shorter_heads,
        r"lm_heads\.0\.weight \(10, 32\) for \(64, 32\)\): they have another vocabulary",
    ),
    "decoder, with its prefix": (decoder_only("decoder."), "this is the decoder only"),
    "decoder": (decoder_only(""), "this is the decoder only"),
    "another layer": (
        renamed("model.decoder.layers.3.", "model.decoder.layers.4."),
        "16 missing .*16 unexpected .*another configuration",
    ),
}


@pytest.mark.parametrize("name", KEYS)
def test_weights_that_do_not_fill_the_model_are_refused(copy: Path, name: str) -> None:
    edit, pattern = KEYS[name]
    rewrite(copy, edit)
    refused(copy, pattern)


def test_at_most_five_names_of_keys_are_given(copy: Path) -> None:
    rewrite(copy, without("decoder.layers.2."))
    with pytest.raises(ModelError) as caught:
        load(copy, device="cpu")
    assert str(caught.value).count("decoder.layers.2.") == 5


def test_weights_that_are_no_numbers_are_refused_by_name(copy: Path) -> None:
    def spoil(weights: Weights) -> Weights:
        weights["decoder.model.decoder.layers.1.fc1.weight"][3, 4:6] = torch.tensor([torch.nan, -torch.inf])
        return weights

    rewrite(copy, spoil)
    refused(
        copy, r"2 of the 2048 numbers in decoder\.model\.decoder\.layers\.1\.fc1\.weight are NaN or infinite"
    )


def test_harmless_and_old_names_of_weights_load_as_the_same_model(tiny_model: Any, copy: Path) -> None:
    def as_in_2023(weights: Weights) -> Weights:
        for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
            weights = renamed(f"parametrizations.weight.{new}", old)(weights)
        return {**weights, "decoder.model.decoder.embed_positions.weights": torch.zeros(8, 32)}

    rewrite(copy, as_in_2023)
    model = load(copy, device="cpu", check=False)
    own = tiny_model.musicgen.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in model.musicgen.state_dict().items())


DAMAGES: dict[str, tuple[str, bytes | None, str]] = {
    "pointer": ("model.safetensors", POINTER, "model.safetensors is a Git LFS pointer.* git lfs pull"),
    "empty": ("model.safetensors", b"", "model.safetensors is empty"),
    "no weights": ("model.safetensors", b"x" * 1000, "model.safetensors is cut or no safetensors file"),
    "pointer to a setting": ("config.json", POINTER, "config.json is a Git LFS pointer"),
    "cut setting": ("config.json", b'{"model_type": "musicgen"', "config.json is no JSON"),
    "list for a setting": ("config.json", b"[]", "cannot load it"),
    "cut generation": ("generation_config.json", b"{", "generation_config.json is no JSON"),
    "pointer to words": ("tokenizer.json", POINTER, "tokenizer.json is a Git LFS pointer"),
    "cut words": ("tokenizer.json", b"{", "tokenizer.json is no JSON"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files_of_a_checkpoint_are_named(copy: Path, name: str) -> None:
    file, content, pattern = DAMAGES[name]
    (copy / file).write_bytes(content or b"")
    refused(copy, pattern)


def test_cut_safetensors_and_missing_shards_are_named(copy: Path) -> None:
    whole = (copy / "model.safetensors").read_bytes()
    for size in (len(whole) - 1, 100, 4):
        (copy / "model.safetensors").write_bytes(whole[:size])
        refused(copy, "model.safetensors is cut or no safetensors file")
    (copy / "model.safetensors").unlink()
    names = {"decoder.lm_heads.0.weight": "model-00001-of-00002.safetensors"}
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    refused(copy, "model-00001-of-00002.safetensors, which its index names, is missing")


class _Planted:
    """Pickled, it would touch a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_bin_weights_load_and_bad_ones_are_refused_unread(copy: Path, tmp_path: Path) -> None:
    path, planted = copy / "pytorch_model.bin", tmp_path / "planted"
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(weights, path)
    assert load(copy, device="cpu", check=False).fingerprint == folder_fingerprint(copy)
    torch.save(with_lora(weights), path)
    refused(copy, "not merged into them")
    torch.save({"weights": _Planted(planted)}, path)
    assert zipfile.is_zipfile(path)
    refused(copy, "UnpicklingError: a .bin file is damaged, or holds more than plain weights")
    assert not planted.exists()
    for content, pattern in ((POINTER, "pytorch_model.bin is a Git LFS pointer"), (b"", "is empty")):
        path.write_bytes(content)
        refused(copy, pattern)


@pytest.mark.parametrize("alone", [True, False])
def test_adapter_folders_are_to_be_merged_first(copy: Path, alone: bool) -> None:
    (copy / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    if alone:
        (copy / "config.json").unlink()
        (copy / "model.safetensors").rename(copy / "adapter_model.safetensors")
    refused(copy, r"it holds an adapter \(adapter_config.json\).*Merge it first")


SETTINGS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "codec": (lambda c: c.pop("audio_encoder"), "config.json has no audio_encoder"),
    "decoder": (lambda c: c.pop("decoder"), "config.json has no decoder"),
    "no BOS": (lambda c: c["decoder"].update(bos_token_id=None), "the bos_token_id of its decoder is None"),
    "far BOS": (lambda c: c["decoder"].update(bos_token_id=65), "bos_token_id of its decoder is 65"),
    "vocabulary": (lambda c: c["decoder"].update(vocab_size=65), "another vocabulary"),
    "layers": (lambda c: c["decoder"].update(num_hidden_layers=3), "16 unexpected .*another configuration"),
    "text": (lambda c: c["decoder"].update(hidden_size="x"), "cannot load it"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_configurations_that_do_not_fit_the_weights_are_refused(copy: Path, name: str) -> None:
    edit, pattern = SETTINGS[name]
    configure(copy, edit)
    refused(copy, pattern)


def test_a_folder_without_words_is_refused(copy: Path) -> None:
    for path in copy.glob("tokenizer*"):
        path.unlink()
    refused(copy, r"there is no tokenizer file \(spiece.model or tokenizer.json\)")


def test_the_tokenizer_of_another_text_encoder_is_refused(copy: Path) -> None:
    tokenizer = fixture_model.tokenizer()
    tokenizer.add_tokens(["another", "words"])
    tokenizer.save_pretrained(copy)
    refused(copy, "its tokenizer has 33 words, and its text encoder 31")


@pytest.mark.parametrize("name", [None, 3, "", " ", "a\0b"])
def test_what_is_no_name_of_a_model_is_refused(name: Any) -> None:
    with pytest.raises(ModelError, match="that is no name"):
        load(name)


@pytest.mark.parametrize("device", ["CPU", " cpu ", "cpu:0", torch.device("cpu")])
def test_devices_are_known_by_any_spelling(device: Any) -> None:
    assert choose_device(device).type == "cpu"


@pytest.mark.parametrize("device", ["", "tpu", "meta", "cuda:99", "cpu:7", -1, 3.5, True])
def test_devices_that_are_none_are_refused_with_the_choices(device: Any) -> None:
    with pytest.raises(ModelError, match=r'torch (knows|finds) no such device.* Use one of .*"cpu"'):
        choose_device(device)


def test_gpu_and_numbers_mean_the_accelerator_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(choose_device(name)) for name in ("gpu", "GPU", "0", 1, "cuda:1", None)] == [
        "cuda", "cuda", "cuda:0", "cuda:1", "cuda:1", "cuda"
    ]  # fmt: skip
    with pytest.raises(ModelError, match="no such device here"):
        choose_device("2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("gpu").type == "mps"


def test_precisions_are_known_by_the_names_that_torch_gives_them(tiny_model: Any) -> None:
    for name in ("torch.float32", "Float32", torch.float32):
        assert choose_precision(name, torch.device("cpu"), tiny_model.musicgen)[0] == "float32"
    assert choose_precision(torch.int8, torch.device("cpu"), tiny_model.musicgen)[0] == "int8"
    for name in ("", "fp16", "int16", 3):
        with pytest.raises(ModelError, match="it is none"):
            choose_precision(name, torch.device("cpu"), tiny_model.musicgen)
    with pytest.raises(ModelError, match="no such kernels for cuda"):
        choose_precision("int8", torch.device("cuda"), tiny_model.musicgen)


def test_fingerprints_are_of_the_weights_that_are_loaded(copy: Path, tiny_model: Any) -> None:
    assert folder_fingerprint(copy) == tiny_model.fingerprint
    save_file({"vector": torch.zeros(3)}, copy / "direction.safetensors")
    assert folder_fingerprint(copy) == tiny_model.fingerprint
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    marks = set()
    for seed in range(2):  # an unrelated file beside them must not stand for the weights
        torch.save({**weights, "seed": torch.tensor(seed)}, copy / "pytorch_model.bin")
        marks.add(folder_fingerprint(copy))
    assert len(marks) == 2


def test_without_weight_files_the_weights_themselves_are_hashed(tiny_model: Any, tmp_path: Path) -> None:
    from workbench.model.musicgen import Model

    (tmp_path / "config.json").write_text("{}")
    model = Model(tiny_model.musicgen, tiny_model.tokenizer, id="hub", folder=tmp_path)
    assert model.fingerprint == module_fingerprint(tiny_model.musicgen)


def test_the_built_in_model_is_what_it_was() -> None:
    assert folder_fingerprint(builtin_folder())[:8] == load("embedded", device="cpu").id.split("#")[1]


def _visits(model: Any, work: Callable[[], object]) -> int:
    """How often the decoder runs meanwhile."""
    seen: list[None] = []
    inner = model.musicgen.decoder.model.decoder
    handle = inner.register_forward_pre_hook(lambda *_: seen.append(None))
    try:
        work()
    finally:
        handle.remove()
    return len(seen)


@pytest.mark.parametrize("kind", ["tiny", "melody"])
def test_conditioning_costs_the_contract_at_most_three_steps(kind: str, request: Any) -> None:
    model = request.getfixturevalue(f"{kind}_model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contract, "_check_conditioning", lambda _model: None)
        before = _visits(model, lambda: check_contract(model))
    assert 0 < _visits(model, lambda: check_contract(model)) - before <= 3


def _deaf(_module: Any, _given: Any, out: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(out)


@pytest.mark.parametrize("kind", ["tiny", "melody"])
def test_contract_notices_that_text_is_not_heard(kind: str, request: Any) -> None:
    model = request.getfixturevalue(f"{kind}_model")
    handle = model.musicgen.enc_to_dec_proj.register_forward_hook(_deaf)
    try:
        with pytest.raises(ModelError, match="another text to change the logits"):
            check_contract(model)
    finally:
        handle.remove()


def test_contract_notices_that_melody_is_not_heard(melody_model: Any) -> None:
    handle = melody_model.musicgen.audio_enc_to_dec_proj.register_forward_hook(_deaf)
    try:
        with pytest.raises(ModelError, match="another melody to change the logits"):
            check_contract(melody_model)
    finally:
        handle.remove()


def test_contract_notices_guidance_without_a_null_condition(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(text: TextStates) -> TextStates:
        return TextStates(torch.cat([text.states] * 2), torch.cat([text.mask] * 2))

    monkeypatch.setattr(TextStates, "with_null", twice)
    with pytest.raises(ModelError, match="another guidance to change the logits"):
        check_contract(tiny_model)


@pytest.mark.parametrize("site", contract.SITES)
def test_contract_notices_a_site_whose_edits_are_lost(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch, site: str
) -> None:
    live = contract.live
    monkeypatch.setattr(
        contract,
        "live",
        lambda net, place: live(net, place).clone() if place[1] == site else live(net, place),
    )
    pattern = "an edit at" if site != "resid_post" else "an edit at 'resid_post'"
    with pytest.raises(ModelError, match=pattern) as caught:
        check_contract(tiny_model)
    assert repr(site) in str(caught.value)


def test_what_fails_in_the_contract_is_the_workbench_s_error(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_model: Any) -> float:
        raise RuntimeError("shapes do not match\nsecond line")

    monkeypatch.setattr("workbench.model.load.check_contract", fails)
    refused(tiny_folder, r"the check of its contract fails \(RuntimeError: shapes do not match\)", check=True)


@pytest.fixture
def pretend_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules move to "mps" by remembering so; everything is computed on the CPU."""
    move = torch.nn.Module.to

    def to(module: Any, *given: Any, **named: Any) -> Any:
        device = named.pop("device", None)
        if device is not None:
            module.pretends = torch.device(device).type
        return move(module, *given, **named)

    monkeypatch.setattr(torch.nn.Module, "to", to)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


def _wrong_on_mps(monkeypatch: pytest.MonkeyPatch, name: str, spoil: Callable[[Any], object]) -> None:
    method = getattr(fixture_model.EncodecModel, name)

    def wrapped(codec: Any, *given: Any, **named: Any) -> Any:
        out = method(codec, *given, **named)
        if codec.pretends == "mps":
            spoil(out)
        return out

    monkeypatch.setattr(fixture_model.EncodecModel, name, wrapped)


def _fail(_out: Any) -> None:
    raise NotImplementedError("no such operation here")


WRONG = {
    "garbage": ("decode", lambda out: out.audio_values.copy_(out.audio_values.flip(-1)), "its sound differs"),
    "no numbers": ("decode", lambda out: out.audio_values.fill_(torch.nan), "it fails"),
    "codes": ("encode", lambda out: out.audio_codes.copy_(63 - out.audio_codes), "of its codes differ"),
    "missing": ("decode", _fail, "it fails .NotImplementedError: no such operation here"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_codec_that_is_wrong_on_a_device_stays_on_the_cpu(
    tiny_folder: Path, pretend_mps: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    method, spoil, pattern = WRONG[name]
    _wrong_on_mps(monkeypatch, method, spoil)
    model = load(tiny_folder, device="mps", dtype="float32", check=False)
    assert model.musicgen.decoder.pretends == "mps" and model.musicgen.audio_encoder.pretends == "cpu"
    with pytest.raises(AssertionError, match=pattern):
        raise AssertionError(model.describe())
    assert "the codec runs on the CPU, for on mps" in model.describe()


def test_a_codec_that_agrees_with_the_cpu_goes_to_the_device(tiny_folder: Path, pretend_mps: None) -> None:
    model = load(tiny_folder, device="mps", dtype="float32", check=False)
    assert model.musicgen.audio_encoder.pretends == "mps" and "codec runs" not in model.describe()


def test_a_codec_on_the_cpu_is_not_measured() -> None:
    moved: list[Any] = []
    codec = SimpleNamespace(to=lambda device: moved.append(device))
    assert settle_codec(SimpleNamespace(audio_encoder=codec), torch.device("cpu")) == "" and len(moved) == 1


def test_random_numbers_are_the_cpu_s_whatever_the_device(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_model.sampling(["music"], seeds=[3], frames=2)
    assert tiny_model.random_device.type == "cpu" and run.generators[0].device.type == "cpu"
    elsewhere = tiny_model.random_device = torch.device("meta")
    try:
        with pytest.raises(RuntimeError):  # asked for where there are no random numbers
            tiny_model.sampling(["music"], seeds=[3], frames=2)
        then = {**environment(tiny_model)}
    finally:
        tiny_model.random_device = torch.device("cpu")
    assert differences(then, tiny_model) == [f"random {elsewhere.type} then, cpu now"]
    then.pop("random")  # a take of before drew where the model ran
    assert differences(then, tiny_model) == []


def test_codes_are_drawn_where_the_generators_are() -> None:
    logits = torch.zeros(1, 4, 8)
    made: list[torch.device] = []

    class Elsewhere(torch.Tensor):
        def to(self, device: Any, *_given: Any, **_named: Any) -> torch.Tensor:
            made.append(torch.device(device))
            return self.as_subclass(torch.Tensor)

    text = TextStates(torch.zeros(1, 1, 4), torch.ones(1, 1))
    run = Sampling(text, [torch.Generator().manual_seed(0)], 3, (0, 1, 2, 3), 8)
    assert torch.equal(draw(logits, run), draw(logits.as_subclass(Elsewhere), _again(run)))
    assert made and made[0].type == "cpu"


def _again(run: Sampling) -> Sampling:
    run.generators[0].manual_seed(0)
    return run
