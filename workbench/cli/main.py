"""Reads the command line and hands over to the library."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from workbench.cli import commands
from workbench.errors import WorkbenchError

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


def _model(command: argparse.ArgumentParser) -> None:
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
    _model(demo)
    demo.add_argument("--music", default="embedded", help='"embedded", a folder or a CSV file')
    demo.add_argument(
        "--out", type=Path, default=Path("out/demo"), help="folder for WAV files, report and page"
    )
    demo.add_argument("--prompt", default="a tune", help="the prompt of the clips that are kept")
    demo.add_argument("--seed", type=int, default=7, help="their seed")
    demo.add_argument("--clips", type=int, default=8, help="judged clips per genre (default: 8)")


def _doctor(sub: _Sub) -> None:  # type: ignore[valid-type]
    more = "Exits with 1 when the built-in model cannot be loaded or steered."
    _model(
        _command(
            sub,
            "doctor",
            "say what is installed, on which device, and whether the model loads and steers",
            more,
        )
    )


def _capture(sub: _Sub) -> None:  # type: ignore[valid-type]
    capture = _command(sub, "capture", "store the activations of labelled music", "Interrupted, it resumes.")
    _model(capture)
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
    _model(steer)
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
