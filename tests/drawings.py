"""A picture, as whoever looks at it finds it."""

import re
from xml.etree import ElementTree as ET

import attrs

from szal.pictures.label import width

SVG = "{http://www.w3.org/2000/svg}"
NUMBER = r"-?[0-9.]+"


@attrs.frozen
class Rect:
    """Where something is."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other):
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def contains(self, x, y, slack=0.0):
        return self.left - slack <= x <= self.right + slack and self.top - slack <= y <= self.bottom + slack


@attrs.frozen
class Seen:
    """The boxes of a picture by the whole names in their titles, its blocks and its edges."""

    root: ET.Element
    boxes: dict
    blocks: list
    chains: list
    edges: list  # the points of each: of straight lines where there are two or four, else of curves
    texts: list  # of a box: the rectangle that it has, and the one that the text needs

    def names_at(self, x, y, *, at_end=False):
        """Return the steps whose box, or block, has that point on its border; of a chain its first, or its last."""
        for block in self.blocks:
            if block.contains(x, y, 0.2) and not block.contains(x, y, -0.2):
                return {name for name, box in self.boxes.items() if block.contains(box.left, box.top)}
        for chain in self.chains:
            if chain.contains(x, y, 0.2) and not chain.contains(x, y, -0.2):
                names = [name for name, box in self.boxes.items() if chain.contains(box.left, box.top)]
                return {names[-1 if at_end else 0]}
        return {name for name, box in self.boxes.items() if box.contains(x, y, 0.2)}


def numbers(text):
    return [float(found) for found in re.findall(NUMBER, text)]


def rect_of(element, x=0.0, y=0.0):
    left, top = x + float(element.get("x", 0)), y + float(element.get("y", 0))
    return Rect(left, top, left + float(element.get("width")), top + float(element.get("height")))


def has(element, kind):
    return kind in element.get("class", "").split()


def seen(svg):
    """Return what there is to be seen in a picture that `graph_svg` has made."""
    root = ET.fromstring(svg)
    boxes, texts = {}, []
    for group in root.iter(f"{SVG}g"):
        if not has(group, "szal-node"):
            continue
        x, y = numbers(group.get("transform"))
        outlines = [rect_of(each, x, y) for each in group.iter(f"{SVG}rect") if has(each, "szal-box")]
        whole = Rect(
            min(each.left for each in outlines),
            min(each.top for each in outlines),
            max(each.right for each in outlines),
            max(each.bottom for each in outlines),
        )
        name = group.find(f"{SVG}title").text.partition("\n")[0]
        assert name not in boxes, name
        boxes[name] = whole
        for text in group.iter(f"{SVG}text"):
            size, bold = (13, True) if has(text, "szal-name") else (11, False)
            left, base = x + float(text.get("x")), y + float(text.get("y"))
            end = left + width(text.text or "", size, bold=bold)
            texts.append((outlines[-1], Rect(left, base - size, end, base + size / 4)))
    edges = []
    for path in root.iter(f"{SVG}path"):
        if has(path, "szal-edge"):
            found = numbers(path.get("d"))
            edges.append(list(zip(found[::2], found[1::2], strict=True)))
    around = [each for each in root.iter(f"{SVG}rect") if has(each, "szal-block")]
    blocks = [rect_of(each) for each in around if not has(each, "szal-chain")]
    chains = [rect_of(each) for each in around if has(each, "szal-chain")]
    return Seen(root, boxes, blocks, chains, edges, texts)
