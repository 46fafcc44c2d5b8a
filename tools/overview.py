"""Make docs/overview.png, the picture at the top of the README, from an executed workbook.

make workbook && python tools/overview.py
"""

import base64
import io
from pathlib import Path

import nbformat
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
# Notebook and the beginning of the last line of the cell whose picture is taken.
PICTURES = (
    ("01_tasks", "pl.views.patch_pca(vit, tasks[names[2]]"),
    ("00_tour", 'pl.views.change_map(models["full"]'),
    ("02_trained_tensors", "    pl.views.parameters_accuracy("),
)


def picture(notebook, line):
    for cell in nbformat.read(ROOT / "reports" / f"{notebook}.ipynb", as_version=4).cells:
        if cell.cell_type == "code" and cell.source.splitlines()[-1].startswith(line):
            data = next(o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {}))
            return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    raise SystemExit(f"{notebook}: no cell ends with a line that begins with {line!r}")


def main():
    pictures = [picture(*p) for p in PICTURES]
    width = max(p.width for p in pictures)
    pictures = [p.resize((width, round(p.height * width / p.width)), Image.Resampling.LANCZOS) for p in pictures]
    sheet, top = Image.new("RGB", (width, sum(p.height for p in pictures)), "white"), 0
    for p in pictures:
        sheet.paste(p, (0, top))
        top += p.height
    out = ROOT / "docs" / "overview.png"
    out.parent.mkdir(exist_ok=True)
    sheet.save(out, optimize=True)


if __name__ == "__main__":
    main()
