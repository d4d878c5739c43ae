"""The command line: lab, app, demo, doctor, capture, probe and steer, each a few lines over the library."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.extensions import load_extension, load_installed_extensions
from workbench.files import builtin_path, file_names

ABOUT = """Look inside a music model, find where it keeps "jazz", turn that up, and hear the result.

A first walk:
  workbench doctor                     is everything there?
  workbench lab                        the notebooks
  workbench app                        just the interactive pages, code hidden
  workbench demo                       the whole job at once: probe, steer, judge; writes a page

The same, step by step:
  workbench capture -o acts.zarr       the activations of the built-in music
  workbench probe acts.zarr -o probes  one probe per layer, and a direction per genre
  workbench steer "a tune" --direction probes/jazz.safetensors --dose 0.15 -o jazz.wav
"""
PACKAGES = ("torch", "transformers", "nnsight", "scikit-learn", "umap-learn", "plotly", "jupyterlab",
            "ipywidgets", "anywidget", "xarray", "zarr")  # fmt: skip
QUICKSTART = "0_quickstart.ipynb"
NOTEBOOKS = Path("~/musicgen-workbench")  # where an installed package copies its notebooks to
RECIPE = {
    "build-embedded": "build",
    "evaluate-embedded": "evaluate",
    "evaluate-steering": "steering",
}  # of the built-in model
SITES = "embed resid_pre head_out attn_out mlp_out resid_post"
METHODS = "logistic, ridge, means (the difference in means), or one that an extension brings"
DOSE = "in multiples of the mean residual norm (default: 0.15)"
BRANCH = "the branch of guidance to push (default: cond)"
OPERATION = "how it is pushed: add, remove, ..., or one that an extension brings (default: add)"

Run: TypeAlias = Callable[[Namespace], int | None]
Option: TypeAlias = tuple[tuple[str, ...], dict[str, Any]]
COMMANDS: list[tuple[Run, str, str, tuple[Option, ...]]] = []


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status: 0, or 1 after an error that is told in one line."""
    asked = parser().parse_args(arguments)
    try:
        if hasattr(asked, "extension"):
            load_installed_extensions()
            for file in asked.extension or ():
                load_extension(file)
        return int(asked.run(asked) or 0)
    except WorkbenchError as error:
        print(f"workbench: {error}", file=sys.stderr)
        return 1


def parser() -> ArgumentParser:
    """Return the parser of the whole command line."""
    top = ArgumentParser("workbench", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = top.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for run, told, more, options in COMMANDS:
        text = f"{told[0].upper()}{told[1:]}. {more}".strip()
        made = sub.add_parser(run.__name__, help=told, description=text)
        made.set_defaults(run=run)
        for names, settings in options:
            made.add_argument(*names, **settings)
    for old, new in RECIPE.items():
        # With no prefix of its own it forwards options too, which argparse would otherwise refuse as unknown.
        made = sub.add_parser(old, add_help=False, prefix_chars="\0")
        made.add_argument("arguments", nargs=argparse.REMAINDER)
        made.set_defaults(run=recipe, recipe=new)
    return top


def command(told: str, *options: Option, more: str = "") -> Callable[[Run], Run]:
    """Make a function a command of its name, with its options and what `--help` says of it."""

    def listed(run: Run) -> Run:
        COMMANDS.append((run, told, more, options))
        return run

    return listed


def option(*names: str, **settings: Any) -> Option:
    """Return an option or argument, as argparse takes it."""
    return names, settings


def extension(brings: str) -> Option:
    """Return the option that runs a file which registers what it `brings`."""
    told = f"a Python file that registers {brings}; may be given several times (see CONTRIBUTING.md)"
    return option("--extension", action="append", type=Path, metavar="FILE", help=told)


MODEL = (
    option("--model", default="embedded", help='"embedded", a folder, or a hub id (default: embedded)'),
    option("--device", help="cpu, cuda or mps (default: the best there is)"),
)


def notebooks(folder: Path | None = None) -> Path:
    """Return the folder of the notebooks: the clone's own, or copies in `folder`, by default `NOTEBOOKS`.

    An installed package keeps its notebooks where nobody should write, so those that the folder does not have
    yet are copied there. What lies there is never overwritten.
    """
    shipped = builtin_path("notebooks")
    if folder is None and os.access(shipped, os.W_OK) and (shipped.parent / "pyproject.toml").exists():
        return shipped
    folder = (folder or NOTEBOOKS).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(shipped.glob("*.ipynb")):
        if not (folder / file.name).exists():
            shutil.copyfile(file, folder / file.name)
    return folder


@command(
    "open JupyterLab on the quickstart notebook",
    option("notebook", nargs="?", default=QUICKSTART, help="the notebook to open first"),
    option("--folder", type=Path, help=f"copy the notebooks there first (without a clone: {NOTEBOOKS})"),
    option("arguments", nargs=argparse.REMAINDER, help="anything after -- goes to JupyterLab"),
)
def lab(asked: Namespace) -> int:
    """Open JupyterLab with its own safe defaults (reachable only from this computer, token)."""
    folder = notebooks(asked.folder)
    notebook, more = asked.notebook, [word for word in asked.arguments if word != "--"]
    if notebook.startswith("-"):  # `workbench lab -- --port=9` names no notebook
        notebook, more = QUICKSTART, [notebook, *more]
    start = [sys.executable, "-m", "jupyterlab", str(folder / notebook), f"--notebook-dir={folder}"]
    return subprocess.call([*start, *more], env={**os.environ, "PYTHONWARNINGS": "ignore"})


@command(
    "show the desks in the browser, without code or JupyterLab",
    option("--port", type=int, help="default: 8866, or a free one where that is taken"),
    option("--no-browser", action="store_true", help="print the address, open nothing"),
    more="Only this machine can reach it, and only with the token in the address that is printed. It is for "
    "one user: each page has a model of its own, which ends when the page is closed.",
)
def app(asked: Namespace) -> None:
    """Show the desks without their code; see `workbench.cli.app`."""
    from workbench.cli.app import serve

    serve(notebooks(), port=asked.port, browser=not asked.no_browser)


@command(
    "run the whole job and write a page about it",
    *MODEL,
    option("--music", default="embedded", help='"embedded", a folder or a CSV file'),
    option("--out", type=Path, default=Path("out/demo"), help="folder for WAV files, report and page"),
    option("--prompt", default="a tune", help="the prompt of the clips that are kept"),
    option("--seed", type=int, default=7, help="their seed"),
    option("--clips", type=int, default=8, help="judged clips per genre (default: 8)"),
    option("--judge", default="genre", help="name of the judge that hears the clips"),
    extension("a judge"),
    more="Layer and dose are chosen on some seeds and reported on others.",
)
def demo(asked: Namespace) -> None:
    """Run the main job; see `workbench.cli.demo`."""
    from workbench.cli.demo import run_demo

    names = ("model", "music", "device", "prompt", "seed", "clips", "judge")
    print(f"Open {run_demo(asked.out, **{name: getattr(asked, name) for name in names})}")


@command(
    "say what is installed, on which device, and whether the model loads and steers",
    *MODEL,
    more="Exits with 1 when the model cannot be loaded or steered.",
)
def doctor(asked: Namespace) -> int:
    """Print a line per finding; return 0 when everything works, 1 otherwise."""
    print(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    fine = [_check(package, lambda package=package: version(package)) for package in PACKAGES]  # type: ignore[misc]
    fine.append(_check("music", _music))
    fine.append(_check(f"model {asked.model}", lambda: _steered(asked.model, asked.device)))
    print("Everything works." if all(fine) else "Something is missing: see the lines marked with x.")
    return 0 if all(fine) else 1


def _check(what: str, look: Callable[[], str]) -> bool:
    """Print what was found, or why nothing was; never raise, so that one fault does not hide the others."""
    try:
        print(f"  ok {what}: {look()}")
    except PackageNotFoundError:
        print(f"  x  {what}: not installed. Run `make lab`, or install the package again.")
    except Exception as error:  # a doctor reports whatever is wrong
        print(f"  x  {what}: {error}")
    else:
        return True
    return False


def _music() -> str:
    songs = wb.dataset("embedded")
    grooves, first = len(set(songs.groups)), songs.clip(0)
    return f"{len(songs)} built-in pieces, {grooves} grooves; the first lasts {first.seconds:g} s"


def _steered(name: str, device: str | None) -> str:
    import numpy as np

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


@command(
    "store the activations of labelled music",
    *MODEL,
    option("--music", default="embedded", help='"embedded", a folder with a subfolder per genre, or a CSV'),
    option("--seconds", type=float, help="only so much of each clip's beginning"),
    option("--sites", nargs="+", default=["resid_post"], help=SITES),
    option("-o", "--out", type=Path, required=True, help="the store to write, for example acts.zarr"),
    more="Interrupted, it resumes.",
)
def capture(asked: Namespace) -> None:
    """Write a store of activations."""
    model, songs = wb.load(asked.model, device=asked.device), wb.dataset(asked.music)
    acts = wb.capture(model, songs, sites=asked.sites, seconds=asked.seconds, path=asked.out)
    print(f"{len(acts.clips)} clips, {len(acts.layers)} layers, {', '.join(acts.sites)}: {asked.out}")


@command(
    "fit one linear probe per layer",
    option("activations", type=Path, help="a store that `workbench capture` wrote"),
    option("--target", default="genre", help="the label to read (default: genre)"),
    option("--method", default="logistic", help=METHODS),
    option("--layer", type=int, help="take the directions from this layer (default: the best one)"),
    option("-o", "--out", type=Path, help="folder for table.csv and a direction per class"),
    extension("a probe method"),
    more="Prints accuracy on held-out groups per layer, with its interval and the chance and shuffled lines.",
)
def probe(asked: Namespace) -> None:
    """Fit probes, print their table, and write table and directions."""
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


@command(
    "generate a clip, pushed along a direction",
    *MODEL,
    option("prompt", help='for example "a calm tune"'),
    option("--direction", type=Path, required=True, help="a file that `workbench probe` wrote"),
    option("--dose", type=float, default=0.15, help=DOSE),
    option("--branch", "--rows", choices=["cond", "both", "null"], default="cond", help=BRANCH),
    option("--operation", default="add", help=OPERATION),
    option("--seconds", type=float, default=5.0),
    option("--guidance", type=float, help="by default what the checkpoint says"),
    option("--seed", type=int, default=0),
    option("-o", "--out", type=Path, default=Path("out/steered.wav")),
    extension("an operation"),
    more="Writes the steered clip, and beside it the same prompt and seed unsteered.",
)
def steer(asked: Namespace) -> None:
    """Generate a steered clip, and the same prompt and seed unsteered."""
    model = wb.load(asked.model, device=asked.device)
    push = wb.Direction.load(asked.direction)
    plan = push.at(asked.dose, branch=asked.branch, operation=asked.operation)
    options = {"seed": asked.seed, "seconds": asked.seconds, "guidance": asked.guidance}
    before, after = wb.generate(model, asked.prompt, steering=[None, plan], **options)
    unsteered = asked.out.with_name(f"{asked.out.stem}-unsteered{asked.out.suffix}")
    print(f"{before.clip.write(unsteered)}  unsteered")
    print(f"{after.clip.write(asked.out)}  {after.steering}; {after.receipt}")


def recipe(asked: Namespace) -> int:
    """Forward an old command to the recipe of the built-in model, which lies in a clone of the repository."""
    folder = builtin_path("data", "embedded")
    if not (folder / "recipe").is_dir():
        found = "the recipe of the built-in model is not part of the installed package"
        raise WorkbenchError(f"workbench {asked.command} was asked for", found, "Clone the repository")
    print(f"workbench {asked.command} has become: python -m recipe {asked.recipe}", file=sys.stderr)
    start = [sys.executable, "-m", "recipe", asked.recipe, *asked.arguments]
    return subprocess.call(start, env={**os.environ, "PYTHONPATH": str(folder)})
