"""Render a report as a single HTML file, and as Markdown with its figures in a folder."""

import html
import math
import re
from pathlib import Path
from urllib.parse import quote

import jinja2

from manifests.common import atomic_path
from manifests.errors import InputError
from mmpt_fairseq.report.clips import AudioClip
from mmpt_fairseq.report.content import Page, Setup, state_of
from mmpt_fairseq.report.figures import SvgFigure
from mmpt_fairseq.report.files import FilesPage
from mmpt_fairseq.report.results import HEADINGS

TEMPLATES = Path(__file__).parent / "templates"
REPORT_OF = re.compile(r"; report of \d{4}-\d\d-\d\d \d\d:\d\d")
BEGINNING = 100_000  # characters of a page in which that stands, after the style of HTML
GENERATED = re.compile(r"\d\d+-.*\.(svg|flac)|.*\.yaml")  # files of an earlier report


class Files:
    """Writer for the Markdown page's folder; figures and audio get numbered names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.written: set[str] = set()

    def figure(self, figure: SvgFigure) -> str:
        return self._write(figure.alt, "svg", figure.file.encode())

    def audio(self, name: str, audio: AudioClip) -> str:
        return self._write(Path(name).name, "flac", audio.flac)  # without folders

    def recipe(self, setup: Setup) -> str:
        # Hydra looks the config up by this exact name.
        return self._keep(f"{setup.file}.yaml", setup.recipe.encode())

    def _write(self, name: str, suffix: str, content: bytes) -> str:
        self.count += 1
        readable = re.sub(r"[\W_]+", "-", name.lower()).strip("-")[:50]
        return self._keep(f"{self.count:02d}-{readable}.{suffix}", content)

    def _keep(self, name: str, content: bytes) -> str:
        (self.folder / name).write_bytes(content)
        self.written.add(name)
        return quote(f"{self.folder.name}/{name}")

    def remove_stale(self) -> None:
        """Remove files of an earlier report that were not written again."""
        for path in self.folder.iterdir():
            if GENERATED.fullmatch(path.name) and path.name not in self.written:
                path.unlink()


def write(page: Page | FilesPage, out: Path) -> list[Path]:
    """Write ``out`` (``.html``), the ``.md`` next to it, and its files; return both pages.

    Each page is written atomically, under a temporary name until it is complete.

    Raises:
        InputError: cannot write there, or a file there is no report.
    """
    try:
        return _write(page, out)
    except OSError as error:
        raise InputError(
            f"{error.filename or out} cannot be written ({error.strerror}); choose another --out"
        ) from None


def _write(page: Page | FilesPage, out: Path) -> list[Path]:
    folder, markdown = files_folder(out), out.with_suffix(".md")
    again = replaces_report(out)
    folder.mkdir(parents=True, exist_ok=True)
    files = Files(folder)
    texts = {out: render_html(page), markdown: render_markdown(page, files)}
    for path, text in texts.items():
        with atomic_path(path) as partial:
            partial.write_text(text, encoding="utf-8")
    if again:
        files.remove_stale()
    return [out, markdown]


def replaces_report(out: Path) -> bool:
    """Whether writing a page there replaces an earlier one.

    Raises:
        InputError: it would replace something else.
    """
    existing = [path for path in (out, out.with_suffix(".md")) if path.exists()]
    other = next((path for path in existing if not _is_report(path)), None)
    if other:
        raise InputError(f"{other} exists and is no report of mmpt-report; choose another --out")
    return bool(existing)


def _is_report(path: Path) -> bool:
    """Whether a file says below its title that it is one, as pages of all versions do."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return REPORT_OF.search(file.read(BEGINNING)) is not None
    except OSError:
        return False


def files_folder(out: Path) -> Path:
    """Folder of the Markdown page's figures."""
    return out.with_name(f"{out.stem}_files")


def render_html(page: Page | FilesPage) -> str:
    """Render a self-contained HTML page; text of runs and clips is escaped."""
    environment = _environment(autoescape=True, trim_blocks=True)
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    template = environment.get_template(f"{page.template}.html.j2")
    return template.render(page=page, style=style)


def render_markdown(page: Page | FilesPage, files: Files) -> str:
    """Render as Markdown; figures and audio are written to ``files``."""
    # Statement lines leave empty lines, which end Markdown's paragraphs; several are reduced to
    # one.
    environment = _environment(autoescape=False, trim_blocks=False)
    template = environment.get_template(f"{page.template}.md.j2")
    text = template.render(page=page, files=files)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _environment(autoescape: bool, trim_blocks: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=autoescape,
        trim_blocks=trim_blocks,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"md": escape_markdown, "fence": escape_fence}
    environment.globals |= {
        "headings": HEADINGS,
        "number": number,
        "percent": percent,
        "log_value": log_value,
        "duration": duration,
        "css_width": css_width,
        "plural": plural,
        "state_of": state_of,
    }
    return environment


def number(value: float, like: float | None = None) -> str:
    """Format a score with one decimal, or two below 10; with the decimals of ``like`` if given."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.1f}" if abs(value if like is None else like) >= 10 else f"{value:.2f}"


def percent(value: float) -> str:
    """Format a signed difference in percent."""
    return f"{value:+.1f} %".replace("-", "−") if math.isfinite(value) else "–"


def log_value(value: float | None) -> str:
    """Format a logged number with three digits, or a dash if there is none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 or float(value).is_integer() else f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """Format seconds as hours and minutes, or minutes and seconds."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def plural(count: int, thing: str) -> str:
    """``1 training``, ``2 trainings``."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def css_width(value: float, top: float) -> str:
    """``value`` as a CSS percentage of ``top``."""
    fraction = value / top if top > 0 and math.isfinite(value) else 0.0
    return f"{100 * min(max(fraction, 0.0), 1.0):.2f}%"


def escape_markdown(text: object) -> str:
    """Escape text for Markdown and embedded HTML, on one line."""
    escaped = re.sub(r"([\\`*_\[\]#|~])", r"\\\1", html.escape(str(text), quote=False))
    return " ".join(escaped.split())


def escape_fence(text: object) -> str:
    """Escape text so that it cannot end a fenced block."""
    return str(text).replace("```", "'''")
