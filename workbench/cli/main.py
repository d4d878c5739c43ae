"""Reads the command line and hands over to the library."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from workbench.cli import main as commands
from workbench.errors import WorkbenchError
from workbench.files import file_names
from workbench.model.folders import builtin_folder

# Says what is installed, where the model would run, and whether it loads and steers.


PACKAGES = (
    "torch",
    "transformers",
    "nnsight",
    "scikit-learn",
    "umap-learn",
    "plotly",
    "jupyterlab",
    "ipywidgets",
    "anywidget",
    "xarray",
    "zarr",
)


def examine(name: str = "embedded", device: str | None = None) -> int:
    """Print a line per finding; return 0 when everything works, 1 otherwise."""
    print(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    fine = [_check(package, lambda package=package: version(package)) for package in PACKAGES]  # type: ignore[misc]
    fine.append(_check("music", _music))
    fine.append(_check(f"model {name}", lambda: _model(name, device)))
    print("Everything works." if all(fine) else "Something is missing: see the lines marked with x.")
    return 0 if all(fine) else 1


def _check(what: str, look: Callable[[], str]) -> bool:
    """Print what was found, or why nothing was; never raise, so that one fault does not hide the others."""
    try:
        print(f"  ok {what}: {look()}")
    except PackageNotFoundError:
        print(f"  x  {what}: not installed. Run `make lab`, or pip install -e .")
    except Exception as error:  # a doctor reports whatever is wrong
        print(f"  x  {what}: {error}")
    else:
        return True
    return False


def _music() -> str:
    from workbench.datasets import dataset

    songs = dataset("embedded")
    grooves, first = len(set(songs.groups)), songs.clip(0)
    return f"{len(songs)} built-in pieces, {grooves} grooves; the first lasts {first.seconds:g} s"


def _model(name: str, device: str | None) -> str:
    """Load the model, push it along a random direction for a second, and read the receipt."""
    import numpy as np

    import workbench as wb

    begin = time.perf_counter()
    model = wb.load(name, device=device)
    loaded = time.perf_counter() - begin
    middle = model.n_layers // 2
    vector = np.random.default_rng(0).standard_normal(model.d_model).astype(np.float32)
    norm = float(model.residual_norms()[middle])
    push = wb.Direction(vector, layer=middle, name="random", residual_norm=norm).unit().at(0.5)
    begin = time.perf_counter()
    take = wb.generate(model, "a tune", steering=push, seconds=1, progress=False)
    speed = take.seconds / (time.perf_counter() - begin)
    return f"loaded in {loaded:.1f} s, {speed:.1f} x real time, steering: {take.receipt}\n{model.describe()}"


# What each command does, in a few lines over the library.


NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def lab(asked: Namespace) -> int:
    """Open JupyterLab with its own safe defaults (this machine only, token)."""
    more = [a for a in asked.arguments if a != "--"]
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        str(NOTEBOOKS / asked.notebook),
        f"--notebook-dir={NOTEBOOKS}",
        *more,
    ]
    return subprocess.call(command, env={**os.environ, "PYTHONWARNINGS": "ignore"})


def app(asked: Namespace) -> int:
    """Show the desks without their code; see ``workbench.cli.app``."""
    from workbench.cli.app import serve

    serve(NOTEBOOKS, port=asked.port, browser=not asked.no_browser)
    return 0


def demo(asked: Namespace) -> int:
    """Run the main job; see ``workbench.cli.demo``."""
    from workbench.cli.demo import run_demo

    page = run_demo(asked.out, model=asked.model, music=asked.music, device=asked.device, prompt=asked.prompt,
                    seed=asked.seed, clips=asked.clips)  # fmt: skip
    print(f"Open {page}")
    return 0


def doctor(asked: Namespace) -> int:
    """Say what works; see ``workbench.cli.main``."""
    return examine(asked.model, asked.device)


def capture(asked: Namespace) -> int:
    """Write a store of activations."""
    import workbench as wb

    model = wb.load(asked.model, device=asked.device)
    acts = wb.capture(
        model, wb.dataset(asked.music), sites=asked.sites, seconds=asked.seconds, path=asked.out
    )
    print(f"{len(acts.clips)} clips, {len(acts.layers)} layers, {', '.join(acts.sites)}: {asked.out}")
    return 0


def probe(asked: Namespace) -> int:
    """Fit probes, print their table, and write table and directions."""
    import workbench as wb

    probes = wb.fit_probes(wb.open_activations(asked.activations), target=asked.target, method=asked.method)
    table = probes.table()
    columns = ["layer", "accuracy", "low", "high", "macro_f1", "chance", "shuffled_mean"]
    print(table[columns].to_string(index=False, float_format="{:.3f}".format))
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        table.to_csv(asked.out / "table.csv", index=False)
        directions = probes.directions(asked.layer)
        for name, file in file_names(directions).items():
            print(directions[name].save(asked.out / f"{file}.safetensors"))
    return 0


def steer(asked: Namespace) -> int:
    """Generate a steered clip and its unsteered twin."""
    import workbench as wb

    model = wb.load(asked.model, device=asked.device)
    plan = wb.Direction.load(asked.direction).at(asked.dose, rows=asked.rows)
    options = {"seed": asked.seed, "seconds": asked.seconds, "guidance": asked.guidance}
    before, after = wb.generate(model, asked.prompt, steering=[None, plan], **options)
    twin = asked.out.with_name(f"{asked.out.stem}-unsteered{asked.out.suffix}")
    print(f"{before.clip.write(twin)}  unsteered")
    print(f"{after.clip.write(asked.out)}  {after.steering}; {after.receipt}")
    return 0


def recipe(asked: Namespace) -> int:
    """Forward an old command to the recipe of the built-in model, which lies in a clone of the repository."""
    folder = builtin_folder().parent
    if not (folder / "recipe").is_dir():
        raise WorkbenchError(
            f"workbench {asked.command} was asked for",
            "the recipe of the built-in model is not part of the installed package",
            "Clone the repository",
        )
    print(f"workbench {asked.command} has become: python -m recipe {asked.recipe}", file=sys.stderr)
    command = [sys.executable, "-m", "recipe", asked.recipe, *asked.arguments]
    return subprocess.call(command, env={**os.environ, "PYTHONPATH": str(folder)})


ABOUT = """Look inside a music model, find where it keeps "jazz", turn that up, and hear the result.

A first walk:
  workbench doctor                     is everything there?
  workbench lab                        the notebooks
  workbench app                        the desks alone, without code
  workbench demo                       the whole job at once: probe, steer, judge; writes a page

The same, step by step:
  workbench capture -o acts.zarr       the activations of the built-in music
  workbench probe acts.zarr -o probes  one probe per layer, and a direction per genre
  workbench steer "a tune" --direction probes/jazz.safetensors --dose 0.15 -o jazz.wav
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(
        "workbench", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sub = top.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    _lab(sub)
    _app(sub)
    _demo(sub)
    _doctor(sub)
    _capture(sub)
    _probe(sub)
    _steer(sub)
    _embedded(sub)
    return top


_Sub = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _command(sub: _Sub, name: str, told: str, more: str = "") -> argparse.ArgumentParser:  # type: ignore[valid-type]
    made: argparse.ArgumentParser = sub.add_parser(  # type: ignore[attr-defined]
        name, help=told, description=f"{told[0].upper()}{told[1:]}. {more}".strip()
    )
    made.set_defaults(run=getattr(commands, name.replace("-", "_")))
    return made


def _model_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model", default="embedded", help='"embedded", a folder, or a hub id (default: embedded)'
    )
    command.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")


def _lab(sub: _Sub) -> None:  # type: ignore[valid-type]
    lab = _command(sub, "lab", "open JupyterLab on the quickstart notebook")
    lab.add_argument("notebook", nargs="?", default="0_quickstart.ipynb", help="the notebook to open first")
    lab.add_argument("arguments", nargs=argparse.REMAINDER, help="anything after -- goes to JupyterLab")


def _app(sub: _Sub) -> None:  # type: ignore[valid-type]
    more = (
        "Only this machine can reach it, and only with the token in the address that is printed. It is for "
        "one user: each page has a model of its own, which ends when the page is closed."
    )
    app = _command(sub, "app", "show the desks in the browser, without code or JupyterLab", more)
    app.add_argument("--port", type=int, help="default: 8866, or a free one where that is taken")
    app.add_argument("--no-browser", action="store_true", help="print the address, open nothing")


def _demo(sub: _Sub) -> None:  # type: ignore[valid-type]
    more = "Layer and dose are chosen on some seeds and reported on others."
    demo = _command(sub, "demo", "run the whole job and write a page about it", more)
    _model_option(demo)
    demo.add_argument("--music", default="embedded", help='"embedded", a folder or a CSV file')
    demo.add_argument(
        "--out", type=Path, default=Path("out/demo"), help="folder for WAV files, report and page"
    )
    demo.add_argument("--prompt", default="a tune", help="the prompt of the clips that are kept")
    demo.add_argument("--seed", type=int, default=7, help="their seed")
    demo.add_argument("--clips", type=int, default=8, help="judged clips per genre (default: 8)")


def _doctor(sub: _Sub) -> None:  # type: ignore[valid-type]
    more = "Exits with 1 when the built-in model cannot be loaded or steered."
    _model_option(
        _command(
            sub,
            "doctor",
            "say what is installed, on which device, and whether the model loads and steers",
            more,
        )
    )


def _capture(sub: _Sub) -> None:  # type: ignore[valid-type]
    capture = _command(sub, "capture", "store the activations of labelled music", "Interrupted, it resumes.")
    _model_option(capture)
    capture.add_argument(
        "--music", default="embedded", help='"embedded", a folder with a subfolder per genre, or a CSV'
    )
    capture.add_argument("--seconds", type=float, help="only so much of each clip's beginning")
    capture.add_argument(
        "--sites",
        nargs="+",
        default=["resid_post"],
        help="embed resid_pre head_out attn_out mlp_out resid_post",
    )
    capture.add_argument(
        "-o", "--out", type=Path, required=True, help="the store to write, for example acts.zarr"
    )


def _probe(sub: _Sub) -> None:  # type: ignore[valid-type]
    more = (
        "Prints accuracy on held-out groups per layer, with its interval and the chance and shuffled lines."
    )
    probe = _command(sub, "probe", "fit one linear probe per layer", more)
    probe.add_argument("activations", type=Path, help="a store that `workbench capture` wrote")
    probe.add_argument("--target", default="genre", help="the label to read (default: genre)")
    probe.add_argument("--method", choices=["logistic", "ridge"], default="logistic")
    probe.add_argument(
        "--layer", type=int, help="take the directions from this layer (default: the best one)"
    )
    probe.add_argument("-o", "--out", type=Path, help="folder for table.csv and a direction per class")


def _steer(sub: _Sub) -> None:  # type: ignore[valid-type]
    more = "Writes the steered clip, and beside it the same prompt and seed unsteered."
    steer = _command(sub, "steer", "generate a clip, pushed along a direction", more)
    _model_option(steer)
    steer.add_argument("prompt", help='for example "a calm tune"')
    steer.add_argument("--direction", type=Path, required=True, help="a file that `workbench probe` wrote")
    steer.add_argument(
        "--dose", type=float, default=0.15, help="in multiples of the mean residual norm (default: 0.15)"
    )
    steer.add_argument(
        "--rows", choices=["cond", "both", "null"], default="cond", help="guidance rows to push"
    )
    steer.add_argument("--seconds", type=float, default=5.0)
    steer.add_argument("--guidance", type=float, help="by default what the checkpoint says")
    steer.add_argument("--seed", type=int, default=0)
    steer.add_argument("-o", "--out", type=Path, default=Path("out/steered.wav"))


def _embedded(sub: _Sub) -> None:  # type: ignore[valid-type]
    for name, recipe in (
        ("build-embedded", "build"), ("evaluate-embedded", "evaluate"), ("evaluate-steering", "steering"),
    ):  # fmt: skip
        old = sub.add_parser(name, add_help=False)  # type: ignore[attr-defined]
        old.add_argument("arguments", nargs=argparse.REMAINDER)
        old.set_defaults(run=commands.recipe, recipe=recipe)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status: 0, or 1 after an error that is told in one line."""
    asked = parser().parse_args(arguments)
    try:
        return int(asked.run(asked) or 0)
    except WorkbenchError as error:
        print(f"workbench: {error}", file=sys.stderr)
        return 1
