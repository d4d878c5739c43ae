"""A real browser for tests: a bare page that hosts one widget's script, and a JupyterLab of its own.

The bare page (`Stage`) takes two seconds and shows what a widget draws and plays. `Lab` starts a server on a
free port with a random token and temporary Jupyter folders, and waits for the kernel before it runs anything.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = [
    "--no-sandbox",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # No name is looked up and no other machine is reached: what needs one breaks where it can be seen.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]
LOCAL = re.compile(r"(https?|wss?)://(127\.0\.0\.1|localhost)(:\d+)?/|blob:|data:|about:|file:")


@contextmanager
def browser() -> Iterator[Any]:
    """Yield a headless Chromium: the system's, else Playwright's own; skip where there is neither."""
    from playwright.sync_api import Error, sync_playwright

    system = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as play:
        try:
            opened = play.chromium.launch(executable_path=system, args=FLAGS)
        except Error as error:
            if "Executable doesn't exist" not in str(error):
                raise
            pytest.skip("no Chromium here: install one, or run `playwright install chromium`")
        asked = _watched(opened)
        try:
            yield opened
        finally:
            opened.close()
        foreign = sorted({url for url in asked if not LOCAL.match(url)})
        assert not foreign, f"a page asked another machine: {foreign}"


def _watched(opened: Any) -> list[str]:
    """Return the list in which all requests and sockets of every page of the browser will stand."""
    asked: list[str] = []
    make = opened.new_context

    def new_context(**settings: Any) -> Any:
        context = make(**settings)
        if settings.get("offline"):  # nbconvert names MathJax elsewhere; nothing is reached
            return context
        context.on("request", lambda request: asked.append(request.url))
        context.on("page", lambda page: page.on("websocket", lambda socket: asked.append(socket.url)))
        return context

    def new_page(**settings: Any) -> Any:
        return opened.new_context(**settings).new_page()

    opened.new_context, opened.new_page = new_context, new_page
    return asked


def until(
    check: Callable[[], Any], *, seconds: float = 30, what: str = "the page", every: float = 0.2
) -> Any:
    """Return the first truthy value of `check`, which is asked again and again."""
    end = time.monotonic() + seconds
    value = check()
    while not value:
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s for {what}, last seen: {value!r}")
        time.sleep(every)
        value = check()
    return value


# plotly draws the picture of a figure in a second one, for a moment and outside the page: it is not counted
FIGURES = """() => [...document.querySelectorAll('.js-plotly-plot:not([style*="-5000px"])')].map((figure) => {
  const all = (kind) => [...figure.querySelectorAll(kind)];
  return {
    buttons: all('.modebar-btn').map((button) => button.dataset.title ?? button.ariaLabel ?? ''),
    links: all('a').map((link) => link.href.baseVal ?? link.href).filter(Boolean),
    server: (window.PLOTLYENV ?? {}).BASE_URL || figure._context.plotlyServerURL,
  };
})"""


def figures_that_stay(page: Any) -> int:
    """Return how many figures the page shows, of which none has a button or link to another machine."""
    figures = page.evaluate(FIGURES)
    for figure in figures:
        assert figure["buttons"], "a figure without any button would show nothing about them"
        leaving = re.compile("share|cloud|upload|send|studio|edit|plotly", re.IGNORECASE)
        assert not [button for button in figure["buttons"] if leaving.search(button)], figure
        assert not figure["links"] and not figure["server"], figure
    return len(figures)


STAGE = """
class Model {
  constructor(state, others) {
    Object.assign(this, { state, sent: [], changed: {}, listeners: {} });
    this.widget_manager = { get_model: async (id) => ({ get: (name) => others[id][name] }) };
  }
  get(name) { return this.state[name]; }
  set(name, value) { this.state[name] = value; this.changed[name] = value; this.fire("change:" + name); }
  save_changes() {}
  send(content) { this.sent.push(content); }
  on(name, call) { (this.listeners[name] ??= []).push(call); }
  off(name, call) { this.listeners[name] = (this.listeners[name] ?? []).filter((c) => c !== call); }
  fire(name, ...values) { (this.listeners[name] ?? []).slice().forEach((call) => call(...values)); }
}
window.models = {};
window.stage = async (id, state, others) => {
  const url = URL.createObjectURL(new Blob([state._esm], { type: "text/javascript" }));
  const { default: widget } = await import(url);
  const model = (window.models[id] = new Model(state, others));
  const style = document.createElement("style");
  style.textContent = state._css ?? "";
  document.head.append(style);
  await widget.initialize?.({ model });
  const show = async () => {
    const el = document.body.appendChild(document.createElement("div"));
    const clean = await widget.render({ model, el });
    return () => { clean?.(); el.remove(); };
  };
  model.view = show;
  model.close = await show();
};
"""


class Stage:
    """A page that hosts anywidgets without Jupyter; `deliver` carries what they said back to Python."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._from_page: dict[str, Any] = {}
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.set_content(
            "<!doctype html><html lang='en'><body style='width: 860px; margin: 12px'></body></html>"
        )
        page.add_script_tag(content=STAGE)

    def show(self, widget: Any) -> None:
        """Draw a widget at the end of the page, and send it Python's later messages and trait changes."""
        state, others = _state(widget), {}
        for value in widget.trait_values(sync=True).values():
            if hasattr(value, "model_id"):
                others[value.model_id] = _state(value)
        self.page.evaluate(
            "([id, state, others]) => stage(id, state, others)", [widget.model_id, state, others]
        )
        widget.send = lambda content, buffers=None: self._send(widget, content, buffers or [])
        widget.observe(lambda change: self._change(widget, change), list(state))
        self.deliver(widget)

    def deliver(self, widget: Any) -> list[Any]:
        """Hand the page's changes and messages to Python, as a kernel would; return the messages."""
        said = self.page.evaluate(
            "id => { const m = models[id], said = [m.changed, m.sent];"
            " m.changed = {}; m.sent = []; return said; }",
            widget.model_id,
        )
        self._from_page = said[0]
        for name, value in said[0].items():
            setattr(widget, name, value)
        self._from_page = {}
        for content in said[1]:
            widget._handle_custom_msg(content, [])
        return list(said[1])

    def _send(self, widget: Any, content: Any, buffers: list[bytes]) -> None:
        self.page.evaluate(
            "([id, content, chunks]) => models[id].fire('msg:custom', content,"
            " chunks.map((c) => new DataView(Uint8Array.from(atob(c), (l) => l.charCodeAt(0)).buffer)))",
            [widget.model_id, content, [base64.b64encode(chunk).decode() for chunk in buffers]],
        )

    def _change(self, widget: Any, change: Any) -> None:
        if change["name"] in self._from_page:
            return
        self.page.evaluate(
            "([id, name, value]) => { models[id].state[name] = value; models[id].fire('change:' + name); }",
            [widget.model_id, change["name"], change["new"]],
        )


def _state(widget: Any) -> dict[str, Any]:
    """Return the synced traits as JSON values."""
    state = {
        name: str(value) if name in ("_esm", "_css") else value for name, value in widget.get_state().items()
    }
    return json.loads(json.dumps(state))  # type: ignore[no-any-return]


class Lab:
    """One JupyterLab server over a folder of notebooks."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self.root, self.token = root, secrets.token_hex(16)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = scratch / "lab.log"
        settings = scratch / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        (settings / "notification.jupyterlab-settings").write_text(
            '{"fetchNews": "false", "checkForUpdates": false}'
        )
        folders = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "IPYTHONDIR": "ipython",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        }
        environment = {
            **os.environ,
            **{name: str(scratch / folder) for name, folder in folders.items()},
            "JUPYTER_TOKEN": self.token,
        }
        command = [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--allow-root",
            f"--port={self.port}",
            "--ServerApp.port_retries=0",
            f"--ServerApp.root_dir={root}",
            "--LabApp.expose_app_in_browser=True",
        ]
        with self.log.open("w") as log:
            self.server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        until(self._answers, seconds=90, what="the JupyterLab server", every=0.5)

    def _answers(self) -> bool:
        if self.server.poll() is not None:
            raise AssertionError(f"JupyterLab ended:\n{self.log.read_text()[-2000:]}")
        try:
            return bool(self.ask("status", seconds=2))
        except (urllib.error.URLError, OSError):
            return False

    def ask(self, path: str, method: str = "GET", *, seconds: float = 20) -> bytes:
        """Return what the server's own interface answers."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/api/{path}", method=method)
        request.add_header("Authorization", f"token {self.token}")
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return bytes(answer.read())

    def end_kernels(self) -> None:
        """Shut all kernels down."""
        for session in json.loads(self.ask("sessions")):
            self.ask(f"sessions/{session['id']}", "DELETE")

    def open(self, browser: Any, notebook: str, *, height: int = 1400, before: str = "") -> LabPage:
        """Return the page of a notebook whose kernel is there and answers; a script may run before all."""
        page, requests = browser.new_page(viewport={"width": 1280, "height": height}), []
        page.add_init_script(before)
        page.on("request", lambda request: requests.append(request.url))
        base = f"http://127.0.0.1:{self.port}/"
        page.goto(f"{base}lab/tree/{notebook}?token={self.token}&reset", timeout=120_000)
        return LabPage(page, base, requests)

    def stop(self) -> None:
        """End the server and with it its kernels."""
        self.server.terminate()
        try:
            self.server.wait(20)
        except subprocess.TimeoutExpired:
            self.server.kill()


class LabPage:
    """One notebook in the browser."""

    def __init__(self, page: Any, base: str, requests: list[str]) -> None:
        self.page, self.base, self.requests = page, base, requests
        until(lambda: page.evaluate(KERNEL_READY), seconds=120, what="the kernel", every=0.5)

    def run_all(self, *, seconds: float = 180) -> None:
        """Run every cell and wait for the last to end; an error in a cell fails the test with its text."""
        # The command's promise is not awaited: evaluate would then hang for good if the page lost its kernel.
        self.page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")
        until(self._finished, seconds=seconds, what="all cells", every=0.5)

    def run_to(self, number: int, *, seconds: float = 180) -> None:
        """Run the cells up to and including that one; that the others run is shown without a browser."""
        self.page.evaluate(
            "number => { jupyterapp.shell.currentWidget.content.activeCellIndex = number + 1;"
            " jupyterapp.commands.execute('notebook:run-all-above'); }",
            number,
        )
        until(lambda: self._finished(number + 1), seconds=seconds, what="the cells above", every=0.5)

    def _finished(self, number: int = 10_000) -> bool:
        counts, errors = self.page.evaluate(CELLS, number)
        assert not errors, "\n".join(errors)
        return all(counts)

    def figures_that_stay(self) -> int:
        """Return how many figures there are; none leads to another machine, to which no request went."""
        assert [url for url in self.requests if not url.startswith((self.base, "blob:", "data:"))] == []
        return figures_that_stay(self.page)

    def fold_sidebars(self) -> None:
        """Give the notebook the whole width, as in the pictures of the documentation."""
        self.page.evaluate(
            "() => { if (!jupyterapp.shell.leftCollapsed)"
            " jupyterapp.commands.execute('application:toggle-left-area'); }"
        )

    def show_cell(self, index: int) -> None:
        """Scroll so that a cell stands at the top."""
        self.page.evaluate(
            "i => { const n = jupyterapp.shell.currentWidget.content; n.scrollToItem(i, 'start'); }", index
        )

    def screenshot(self, path: Path) -> Path:
        """Write what is visible as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(path))
        return path


KERNEL_READY = """() => {
  const kernel = window.jupyterapp?.shell?.currentWidget?.context?.sessionContext?.session?.kernel;
  if (!kernel || kernel.connectionStatus !== "connected") return false;
  if (window.__asked !== kernel.id) {
    window.__asked = kernel.id;
    kernel.info.then(() => { window.__answered = kernel.id; });
  }
  return window.__answered === kernel.id && kernel.status === "idle";
}"""

CELLS = """(number) => {
  const all = jupyterapp.shell.currentWidget.content.widgets.slice(0, number);
  const cells = all.filter((c) => c.model.type === "code");
  const outputs = cells.flatMap((c) => c.model.outputs.toJSON());
  return [cells.map((c) => c.model.executionCount !== null || !c.model.sharedModel.source.trim()),
          outputs.filter((o) => o.output_type === "error").map((o) => o.ename + ": " + o.evalue)];
}"""
