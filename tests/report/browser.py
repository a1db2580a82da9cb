"""Load a page in headless Chromium and report what it renders and requests."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

# Images inside an SVG have no natural size, so each is loaded again on its own.
PROBE = """<script>
addEventListener("load", async () => {
  const sources = [...document.querySelectorAll("svg image, img")].map(
    (one) => one.getAttribute("xlink:href") || one.getAttribute("href") || one.src);
  const image_sizes = await Promise.all(sources.map((source) => new Promise((resolve) => {
    const image = new Image();
    image.onload = () => resolve([image.naturalWidth, image.naturalHeight]);
    image.onerror = () => resolve([0, 0]);
    image.src = source;
  })));
  const durations = await Promise.all([...document.querySelectorAll("audio")].map(
    (one) => one.readyState > 0 ? one.duration : new Promise((resolve) => {
      one.onloadedmetadata = () => resolve(one.duration);
      one.onerror = () => resolve(0);
      one.load();
    })));
  const svg_sizes = [...document.querySelectorAll("svg")].map((one) => {
    const box = one.getBoundingClientRect();
    return [box.width, box.height];
  });
  const found = {
    image_sizes, durations, svg_sizes,
    requests: performance.getEntriesByType("resource").map((one) => one.name)
      .filter((name) => !name.startsWith("data:")),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    background: getComputedStyle(document.body).backgroundColor,
    colour: getComputedStyle(document.body).color,
    text: document.body.innerText,
  };
  document.body.innerHTML = "<pre id=found></pre>";
  document.getElementById("found").textContent = JSON.stringify(found);
});
</script>"""


def chromium() -> str:
    """Path of Chromium; skips the test if it is not installed."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("chromium is not installed (apt-get install -y chromium)")
    return program


def inspect_page(page: Path, folder: Path, width: int = 1200, dark: bool = False) -> dict:
    """Run the probe on a copy of the page, ``width`` pixels wide, with all details opened."""
    program = chromium()
    text = page.read_text(encoding="utf-8").replace("<details>", "<details open>")
    text = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", text)
    copy = folder / f"probed{width}{dark}.html"
    copy.write_text(text.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    command = [
        program,
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        f"--user-data-dir={folder / f'profile{width}{dark}'}",
        f"--window-size={width},900",
        *(["--force-dark-mode"] if dark else []),
        *("--virtual-time-budget=20000", "--dump-dom", copy.as_uri()),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="found">(.*?)</pre>', result.stdout, re.DOTALL)
    assert found, result.stderr[-2000:]
    return json.loads(html.unescape(found[1]))
