"""The desks as an app: Voila shows them without their code, to this machine's user alone.

Voila by itself asks nobody for a token, and lets files through unasked. Here the server listens on 127.0.0.1
alone, every request needs the token of this start (or the cookie that a page opened with it sets), everybody
else gets 403, and a page may load nothing from elsewhere. Each page has a kernel and a model of its own.
"""

from __future__ import annotations

import ast
import errno
import os
import re
import secrets
import webbrowser
from base64 import b64encode
from html import escape
from http.client import responses
from pathlib import Path
from typing import Any

import nbformat
from jupyter_core.utils import ensure_async
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.log import log_request
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.web import HTTPError
from traitlets.config import Config
from voila.app import Voila
from voila.tornado.contentshandler import VoilaContentsHandler
from voila.tornado.handler import TornadoVoilaHandler
from voila.tornado.treehandler import TornadoVoilaTreeHandler

from workbench.errors import WorkbenchError
from workbench.files import builtin_path
from workbench.show.page import render

# The notebooks whose first part is worth a page of its own, the one that plays at once before all others, and
# the names by which they show their desk.
LIVE = "8_live_desk"
DESKS = (LIVE, "3_steer_and_listen", "5_probe_lab", "6_debug_a_probe", "7_steer_lab")
SHOWN = ("desk", "lab", "labs")
PORT = 8866
GRACE_S = 60.0  # how long a kernel outlives the connection of its page, which may come back
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; "
    "connect-src 'self' blob: data: ws://127.0.0.1:* ws://localhost:*; frame-ancestors 'self'"
)

FOREIGN = re.compile(r"""<link\b[^>]*\bhref=["']?(?:https?:)?//[^>]*>""", re.IGNORECASE)
"""A style sheet or font of another machine: the policy would refuse it, and it is not even asked for."""


def serve(folder: Path, *, port: int | None = None, browser: bool = True) -> None:
    """Show the desks in `folder` until interrupted; print the address, with the token, and open it.

    A WorkbenchError says that there is no desk, or that another program listens on the port.
    """
    if not desks(folder):
        found = f"{folder} holds none of {', '.join(DESKS)}"
        raise WorkbenchError("The desks were asked for", found, "Run it where the notebooks are")
    kernels = {"cull_idle_timeout": 600, "cull_interval": 60}  # for pages closed before they were there
    app = _DeskApp(
        root_dir=str(folder),
        ip="127.0.0.1",
        port=PORT if port is None else port,
        open_browser=browser,
        token=os.environ.get("JUPYTER_TOKEN") or secrets.token_hex(24),
        config_file_paths=[],  # a file somewhere must not open what is shut here
        log_level="WARN",
        tornado_settings={"headers": {"Content-Security-Policy": POLICY}},
        config=Config({"MappingKernelManager": kernels}),
    )
    app.elsewhere = port is None
    app.initialize([])
    app.voila_configuration.multi_kernel_manager_class = _PageKernels
    app.voila_configuration.prelaunch_hook = only_the_desk
    app.start()


def desks(folder: Path) -> dict[str, str]:
    """The desks in `folder`: file name -> the question that is the notebook's title."""
    found = {}
    for name in DESKS:
        path = folder / f"{name}.ipynb"
        if path.exists():
            first = nbformat.read(path, as_version=4).cells[0].source
            found[path.name] = str(first).splitlines()[0].lstrip("# ")
    return found


def only_the_desk(_handler: object, notebook: Any, cwd: str) -> Any:
    """The notebook up to the cell that shows its desk: what follows is for those who can edit it."""
    kept: list[Any] = []
    for cell in notebook.cells:
        if "guide" in cell.metadata.get("tags", []):  # links to notebooks, which are no pages here
            continue
        if cell.cell_type != "code":
            kept.append(cell)
            continue
        work, shown = _parted(cell.source)
        # Voila draws a page when all has run: of a progress bar it would then find nothing but its name.
        sources = [f"%%capture --no-stderr\n{work}" if work else "", shown]
        kept += [nbformat.v4.new_code_cell(source) for source in sources if source]
        if shown in SHOWN:
            break
    notebook.cells = kept
    return notebook


def _parted(source: str) -> tuple[str, str]:
    """What a cell does, and the expression that it shows in the end; either may be empty."""
    body = ast.parse(source).body
    if not body or not isinstance(body[-1], ast.Expr):
        return source, ""
    begin = body[-1].lineno - 1
    lines = source.splitlines()
    return "\n".join(lines[:begin]), "\n".join(lines[begin:])


class _PageKernels(AsyncMappingKernelManager):
    """Ends a kernel whose page is gone, also one that plays on: a page that is closed well says so itself."""

    def notify_disconnect(self, kernel_id: str) -> None:
        super().notify_disconnect(kernel_id)
        IOLoop.current().call_later(GRACE_S, self._end_unless_back, kernel_id)

    async def _end_unless_back(self, kernel_id: str) -> None:
        if kernel_id in self and not self._kernel_connections.get(kernel_id):
            await ensure_async(self.shutdown_kernel(kernel_id))


class _Guarded(JupyterHandler):
    """Answers 403 to whoever brings neither the token nor its cookie; to be put before any other handler."""

    async def prepare(self) -> None:
        user = await ensure_async(self.settings["identity_provider"].get_user(self))
        if user is None:
            raise HTTPError(403)
        await ensure_async(super().prepare())

    def log_exception(self, kind: Any, error: Any, trace: Any) -> None:
        """Log what is no mere refusal: those are logged with their request, without its token."""
        if not isinstance(error, HTTPError):
            super().log_exception(kind, error, trace)

    def write_error(self, status_code: int, **_kept: Any) -> None:
        told = f"{status_code} {responses.get(status_code, '')}"
        if status_code == 403:
            told += ". Open the address that `workbench app` has printed: the token is in it."
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(told)


class _FrontPage(JupyterHandler):
    """Lists the desks, the live one first, with what it does and looks like."""

    def get(self) -> None:
        file = builtin_path("docs", "screenshots", f"{LIVE}-light.webp")
        picture = b64encode(file.read_bytes()).decode() if file.is_file() else ""
        found = desks(Path(self.settings["voila"].root_dir))
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(render("desks.html", desks=found, live=LIVE, picture=picture))


class _DeskPage(TornadoVoilaHandler):
    """One desk; other notebooks are not for it."""

    async def get(self, path: str | None = None) -> None:
        if path not in desks(Path(self.settings["voila"].root_dir)):
            raise HTTPError(404)
        assert self.xsrf_token  # sets the cookie without which a page cannot say that it is closed
        await super().get(path)

    def write(self, chunk: Any) -> None:
        """Write a piece of the page, without the style sheets that Voila asks another machine for."""
        super().write(FOREIGN.sub("", chunk) if isinstance(chunk, str) else chunk)


class _DeskApp(Voila):
    """Voila that lets nobody in without the token, on this machine only."""

    elsewhere = False  # whether another port may be taken where the one that was asked for is not free

    def init_settings(self) -> dict[str, Any]:
        """Refuse requests that reached this machine under another's name; keep the token out of logs."""
        return {**super().init_settings(), "allow_remote_access": False, "log_function": log_request}

    def init_handlers(self) -> list[Any]:
        """Leave out what lists files, and let the rest answer only those who may come in."""
        rules = [("/", _FrontPage)]
        for rule in super().init_handlers():
            if rule[1] not in (TornadoVoilaTreeHandler, VoilaContentsHandler):
                swapped = _DeskPage if rule[1] is TornadoVoilaHandler else rule[1]
                rules.append((rule[0], swapped, *rule[2:]))
        return [(rule[0], type("GuardedHandler", (_Guarded, rule[1]), {}), *rule[2:]) for rule in rules]

    def listen(self) -> None:
        server = HTTPServer(self.app)
        sockets = self._sockets()
        self.port = sockets[0].getsockname()[1]
        server.add_sockets(sockets)
        print(f"The desks are at {self.address}\nStop with Ctrl-C.", flush=True)
        if self.open_browser:
            self.launch_browser()
        self.ioloop = IOLoop.current()
        try:
            self.ioloop.start()
        except KeyboardInterrupt:
            print("Stopping ...", flush=True)
        finally:
            server.stop()
            self.stop()

    @property
    def address(self) -> str:
        return f"http://{self.ip}:{self.port}/?token={self.token}"

    def launch_browser(self) -> None:
        """Open the address by way of a file that only this user can read: others can see command lines."""
        page = Path(self.connection_dir) / "open.html"  # a folder that is this user's alone
        page.write_text(f'<meta http-equiv="refresh" content="0;url={escape(self.address, quote=True)}">')
        webbrowser.open(page.as_uri())

    def _sockets(self) -> list[Any]:
        try:
            if not 0 <= self.port <= 65535:  # the resolver would take its last 16 bits
                raise OverflowError("a port is a number from 0 to 65535")
            return list(bind_sockets(self.port, self.ip))
        except (OSError, OverflowError) as error:
            in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            if in_use and self.elsewhere:
                return list(bind_sockets(0, self.ip))
            asked, do = f"Port {self.port} was asked for", "Leave --port away, or name another"
            found = "another program listens there" if in_use else str(error)
            raise WorkbenchError(asked, found, do) from error
