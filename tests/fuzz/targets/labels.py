"""Labels of data sets in the four layouts, and their pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping

from hypothesis import strategies as st

from tests.fuzz.case import Case, Content
from tests.fuzz.mutate import damaged
from tests.fuzz.targets.base import Target, seed_files
from tests.fuzz.targets.settings import run_verb
from tests.fuzz.values import json_bytes, odd_documents, odd_lines

KITTI = """\
Car 0.00 0 -1.57 5.00 6.00 40.00 44.00 1.5 1.6 4.0 1.0 1.5 10.0 0.1
Pedestrian 0.30 1 0.10 30.50 2.00 42.00 40.25 1.7 0.6 0.8 -1.0 1.5 12.0 0.1
Van 0.00 2 -1.57 1.00 1.00 30.00 20.00 2.1 1.8 4.9 3.0 1.5 18.0 0.1
DontCare -1 -1 -10 50.00 4.00 60.00 12.00 -1 -1 -1 -1000 -1000 -1000 -10
"""
YOLO = "0 0.5 0.5 0.25 0.5\n1 0.25 0.25 0.1 0.2\n0 0.1 0.1 0.4 0.1 0.4 0.6\n"
YOLO_NAMES = "path: .\ntrain: images\nval: images\nnames:\n  0: car\n  1: person\n"
COCO = {
    "images": [
        {"id": 1, "file_name": "a.png", "width": 64, "height": 48},
        {"id": 2, "file_name": "b.jpg", "width": 48, "height": 64},
    ],
    "categories": [{"id": 1, "name": "car"}, {"id": 7, "name": "person"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 6, 35, 38], "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 7, "bbox": [30, 2, 12, 38], "area": 456.0},
        {"id": 3, "image_id": 2, "category_id": 1, "bbox": [1, 1, 20, 20], "iscrowd": 1},
    ],
}
VOC = """\
<annotation><filename>a.png</filename>
<size><width>64</width><height>48</height><depth>3</depth></size>
<object><name>car</name><difficult>0</difficult>
<bndbox><xmin>5</xmin><ymin>6</ymin><xmax>40</xmax><ymax>44</ymax></bndbox></object>
<object><name>person</name><difficult>1</difficult>
<bndbox><xmin>30.5</xmin><ymin>2</ymin><xmax>42</xmax><ymax>40</ymax></bndbox></object>
</annotation>
"""
COMMANDS = (
    ("check-data", "in", "--set", "evaluate.every=0"),
    ("check-data", "in", "--set", "evaluate.every=0", "--json", "out/check.json"),
    ("check-data", "in", "--val", "train", "--names", "person=pedestrian,van=dontcare"),
    ("anchors", "--data", "in", "-k", "2"),
    ("anchors", "--data", "in", "-k", "1", "--names", "person=pedestrian", "--fit", "stretch"),
)


def _broken(text: str, separator: str | None = None) -> st.SearchStrategy[Content]:
    return st.one_of(odd_lines(text, separator), odd_lines(text, separator), damaged(text.encode()))


def _datasets(
    whole: Mapping[str, bytes], parts: Mapping[str, st.SearchStrategy[Content]]
) -> st.SearchStrategy[Case]:
    """Return a strategy for data sets in which one file of `whole` comes from `parts` instead."""
    files = st.one_of(
        [
            part.map(lambda content, name=name: {**whole, name: content})
            for name, part in parts.items()
        ]
    )
    return st.builds(Case, st.sampled_from(COMMANDS), files)


def _pictures(folder: str) -> dict[str, bytes]:
    png, jpeg = seed_files("alpha.png", "exif.jpg")
    return {f"{folder}/a.png": png, f"{folder}/b.jpg": jpeg}


def kitti() -> st.SearchStrategy[Case]:
    """Return a strategy for data sets in KITTI layout."""
    pictures = _pictures("training/image_2")
    label = "training/label_2/{}.txt".format
    whole = {
        **pictures,
        "ImageSets/train.txt": b"a\nb\n",
        label("a"): KITTI.encode(),
        label("b"): KITTI[:70].encode(),
    }
    parts: dict[str, st.SearchStrategy[Content]] = {
        label("a"): _broken(KITTI),
        label("b"): _broken(KITTI),
        "ImageSets/train.txt": _broken("a\nb\n"),
        "training/image_2/a.png": damaged(pictures["training/image_2/a.png"]),
        "training/image_2/b.jpg": damaged(pictures["training/image_2/b.jpg"]),
    }
    return _datasets(whole, parts)


def yolo() -> st.SearchStrategy[Case]:
    """Return a strategy for data sets in YOLO layout."""
    whole = {
        **_pictures("images"),
        "data.yaml": YOLO_NAMES.encode(),
        "labels/a.txt": YOLO.encode(),
        "labels/b.txt": YOLO.encode(),
    }
    document = {"path": ".", "train": "images", "names": ["car", "person"], "nc": 2}
    parts = {
        "labels/a.txt": _broken(YOLO),
        "labels/b.txt": _broken(YOLO),
        "data.yaml": st.one_of(_broken(YOLO_NAMES, ": "), odd_documents(document).map(json_bytes)),
    }
    return _datasets(whole, parts)


def coco() -> st.SearchStrategy[Case]:
    """Return a strategy for data sets in COCO layout."""
    name = "annotations/instances_train.json"
    whole = {**_pictures("images"), name: json.dumps(COCO).encode()}
    odd = odd_documents(COCO).map(json_bytes)
    deep = st.sampled_from((b"[" * 100_000, b'{"images":' * 50_000, b'{"a":[' * 3000))
    parts = {name: st.one_of(odd, odd, odd, damaged(whole[name]), deep)}
    return _datasets(whole, parts)


def voc() -> st.SearchStrategy[Case]:
    """Return a strategy for data sets in Pascal VOC layout."""
    whole = {
        **_pictures("JPEGImages"),
        "Annotations/a.xml": VOC.encode(),
        "Annotations/b.xml": VOC.encode(),
        "ImageSets/Main/train.txt": b"a 1\nb -1\n",
    }
    bomb = '<!DOCTYPE a [<!ENTITY a "car">' + "".join(
        f'<!ENTITY {name} "{f"&{before};" * 40}">'
        for before, name in zip("abcdef", "bcdefg", strict=True)
    )
    outside = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/hostname">]>' + VOC.replace("car", "&a;")
    deep = "<a>" * 100_000
    tricks = [text.encode() for text in (f"{bomb}]>{VOC.replace('car', '&g;')}", outside, deep)]
    parts = {
        "Annotations/a.xml": st.one_of(
            _broken(VOC, ">"), _broken(VOC, ">"), _broken(VOC, "<"), st.sampled_from(tricks)
        ),
        "ImageSets/Main/train.txt": _broken("a 1\nb -1\n"),
    }
    return _datasets(whole, parts)


TARGETS = {
    "kitti": Target(kitti, run_verb, 50, 25),
    "coco": Target(coco, run_verb, 50, 25),
    "yolo": Target(yolo, run_verb, 50, 25),
    "voc": Target(voc, run_verb, 50, 25),
}
