"""Small pictures of all in a folder, four at a time, and a page that shows them.

python examples/thumbnails.py --store sqlite:///thumbnails.db --id today

Killed in the middle, the same command makes those that are missing. The pictures are in the simplest format there is
(PPM, which many programs write); in earnest Pillow would read them.
"""

import re
from pathlib import Path

import szal

thumbnails = szal.Flow("thumbnails")


@thumbnails.step
def photos(folder: str = str(Path(__file__).parent / "photos")) -> list[str]:
    return sorted(str(path) for path in Path(folder).glob("*.ppm"))


@thumbnails.step(foreach=photos, max_parallel=4, max_retries=2, timeout="1m")  # once for each picture
def shrink(item: str, to: str = "small", factor: int = 4) -> str:
    header = re.match(rb"P6\s+(\d+)\s+(\d+)\s+255\s", data := Path(item).read_bytes())
    if header is None:
        raise szal.GiveUp(f"{item} is no picture")
    width, height, pixels = int(header[1]), int(header[2]), data[header.end() :]
    rows = [pixels[y * width * 3 : (y + 1) * width * 3] for y in range(0, height, factor)]
    small = [b"".join(row[x * 3 : x * 3 + 3] for x in range(0, width, factor)) for row in rows]
    size = f"P6 {len(small[0]) // 3} {len(small)} 255\n".encode()
    Path(to).mkdir(parents=True, exist_ok=True)
    target = Path(to, Path(item).name)
    part = target.with_suffix(".part")  # whoever looks, sees a whole picture or none
    part.write_bytes(size + b"".join(small))
    part.replace(target)
    return target.name


@thumbnails.step
def page(shrink: list[str], to: str = "small") -> str:
    path = Path(to, "index.html")
    path.write_text("".join(f'<img src="{name}">\n' for name in shrink))
    return str(path)


if __name__ == "__main__":
    thumbnails.main()
