"""Take the pictures of the tutorial: `python docs/site/tutorial_pictures.py FOLDER LOG`.

FOLDER is where the commands of docs/tutorial.md have been run. LOG holds the blocks and what they
printed, each after a line that begins with `=== `. A page is made of each step and photographed by
Chromium (Debian: `apt-get install chromium`).
"""

from __future__ import annotations

import csv
import html
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageChops

PICTURES = Path(__file__).resolve().parents[1] / "tutorial"
STYLE = """
body { margin: 0; padding: 14px; background: #fff; font: 15px sans-serif; color: #222 }
pre { margin: 0; padding: 14px; background: #1d1f21; color: #e8e8e8; font: 13px monospace }
pre { white-space: pre-wrap }
figure { display: inline-block; width: 150px; margin: 6px; vertical-align: top }
figure img { width: 128px }
"""


def collection(folder: Path) -> str:
    """Return a page of the first pictures with their captions."""
    with (folder / "collection" / "captions.tsv").open(newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t"))[:10]
    return "".join(
        f'<figure><img src="{(folder / "collection" / row["image"]).as_uri()}">'
        f"<figcaption>{html.escape(row['caption'])}</figcaption></figure>"
        for row in rows
    )


def terminal(log: str, command: str, lines: int = 40) -> str:
    """Return a page of the first block that holds ``command``, and of what it printed."""
    told = next(part for part in re.split(r"^=== ", log, flags=re.MULTILINE) if command in part)
    text = "\n".join(told.splitlines()[1:][:lines])
    return f"<pre>{html.escape(text)}</pre>"


def photograph(page: Path, target: Path, width: int, height: int) -> None:
    """Write the picture of a page, without the empty ground below it and in few colours."""
    browser = shutil.which("chromium")
    if browser is None:
        raise SystemExit("Chromium is needed: apt-get install chromium")
    line = [browser, "--headless", "--no-sandbox", "--hide-scrollbars", f"--screenshot={target}"]
    line += [f"--window-size={width},{height}", page.as_uri()]
    subprocess.run(line, check=True, capture_output=True)
    image = Image.open(target).convert("RGB")
    ground = Image.new("RGB", image.size, image.getpixel((0, image.height - 1)))
    box = ImageChops.difference(image, ground).getbbox()
    image = image.crop((0, 0, width, min(height, box[3] + 14 if box else height)))
    image.quantize(128).save(target, optimize=True)


def main(folder: Path, log: Path) -> None:
    """Write every picture."""
    PICTURES.mkdir(exist_ok=True)
    told = log.read_text(encoding="utf-8")
    pages = {
        "collection": collection(folder),
        "run": terminal(told, "unlearnable run"),
        "captions": terminal(told, "captions.txt"),
        "publish": terminal(told, "publish protected published"),
        "verify": terminal(told, "unlearnable verify"),
        "restore": terminal(told, "unlearnable restore"),
    }
    for name, body in pages.items():
        page = folder / f"{name}.html"
        page.write_text(f'<meta charset="utf-8"><style>{STYLE}</style>{body}', encoding="utf-8")
        photograph(page, PICTURES / f"{name}.png", 940, 900)
    photograph(folder / "protected-report.html", PICTURES / "report.png", 1100, 1200)
    sheet = Image.open(folder / "preview.png").convert("RGB")
    sheet = sheet.crop((0, 0, sheet.width, sheet.height // 2))
    sheet.quantize(255).save(PICTURES / "preview.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
