"""The report of a check of data sets: text for people, plain data for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.datasets.check import FAR_FROM_ANCHORS, Checked, Finding, FindingKind
from squeezedrive.engines.datasets.copies import HASH_BYTES, find_copies, stack

SHOWN = 5  # findings printed for each kind
KINDS: dict[FindingKind, str] = {  # in the order of the text
    "unusable": "a training would stop here",
    "no area": "boxes without area, left out",
    "outside": "boxes outside the picture",
    "partly outside": "boxes that reach out of the picture",
    "duplicate": "objects labelled twice",
}

Role = Literal["train", "val"]
ROLES: tuple[Role, ...] = ("train", "val")


@dataclass(frozen=True)
class CheckedPart:
    """The split of a data set, and the findings in it.

    Attributes
    ----------
    role : str
        Its purpose: "train" or "val".
    checked : Checked or None
        The result of the check; None if the split cannot be opened.
    unusable : tuple of Finding
        The reasons why it cannot be opened or used as a whole.
    """

    root: str
    split: str
    role: Role
    checked: Checked | None
    unusable: tuple[Finding, ...] = ()

    @property
    def findings(self) -> list[Finding]:
        """The findings about the whole split, then those about single pictures and labels."""
        return [*self.unusable, *(self.checked.findings if self.checked else ())]


@dataclass(frozen=True)
class Copy:
    """Two pictures that are nearly the same: one to train on, one to evaluate on."""

    train: str
    val: str
    bits: int


@dataclass(frozen=True)
class CheckReport:
    """All findings of a check.

    Attributes
    ----------
    classes : tuple of str
        The classes of the training.
    parts : sequence of CheckedPart
        The splits to train on and the splits to evaluate on.
    """

    classes: tuple[str, ...]
    parts: Sequence[CheckedPart]

    @cached_property
    def copies(self) -> list[Copy]:
        """Pairs of nearly equal pictures: one to train on, one to evaluate on."""
        train, train_hashes = self._pictures("train")
        val, val_hashes = self._pictures("val")
        found = find_copies(val_hashes, train_hashes)
        return [Copy(train[there], val[here], bits) for here, there, bits in found]

    def _pictures(self, role: Role) -> tuple[list[str], NDArray[np.uint8]]:
        chosen = [part.checked for part in self.parts if part.role == role and part.checked]
        paths = [str(path) for checked in chosen for path in checked.pictures]
        return paths, np.concatenate([stack([]), *(checked.hashes for checked in chosen)])

    def unseen(self, role: Role) -> list[str]:
        """Return the classes without any object in the data sets for this purpose."""
        counts = np.zeros(len(self.classes), np.intp)
        for part in self.parts:
            if part.role == role and part.checked:
                counts += part.checked.dataset.counts()
        return [name for name, count in zip(self.classes, counts, strict=True) if not count]

    def stops(self) -> int:
        """Return the number of findings at which a training stops."""
        return sum(found.kind == "unusable" for part in self.parts for found in part.findings)

    def as_data(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "unusable": self.stops(),
            "classes": list(self.classes),
            "never_seen": {role: self.unseen(role) for role in self._roles()},
            "sets": [_part_data(part) for part in self.parts],
            "copies": [vars(copy) for copy in self.copies],
        }

    def as_text(self) -> str:
        """Return a report for people, with the first few findings of each kind."""
        lines = [line for part in self.parts for line in _part_lines(part)]
        copies = self.copies
        if copies:
            lines.append(f"pictures in val that are nearly the same as one in train: {len(copies)}")
            for copy in copies[:SHOWN]:
                lines.append(f"  {copy.val}")
                lines.append(f"    {copy.train}, {copy.bits} of {8 * HASH_BYTES} bits differ")
            lines += _more(len(copies))
            lines.append("")
        return "\n".join(lines + self._summary(len(copies)))

    def _roles(self) -> list[Role]:
        return [
            role for role in ROLES if any(part.role == role and part.checked for part in self.parts)
        ]

    def _summary(self, copies: int) -> list[str]:
        lines = []
        for role in self._roles():
            unseen = self.unseen(role)
            if unseen:
                lines.append(f"never seen in {role}: {', '.join(unseen)}")
        findings = [found for part in self.parts for found in part.findings]
        kinds = [(text, sum(f.kind == kind for f in findings)) for kind, text in KINDS.items()]
        counted = [f"{text}: {count}" for text, count in kinds[1:] if count]
        if copies:
            counted.append(f"pictures nearly the same in train and val: {copies}")
        if counted:
            lines.append("worth a look: " + "; ".join(counted))
        stops = self.stops()
        if stops:
            lines.append(f"unusable: {stops} findings at which a training stops")
        else:
            lines.append("usable: a training would not stop")
        return lines


def _part_data(part: CheckedPart) -> dict[str, Any]:
    data: dict[str, Any] = {"root": part.root, "split": part.split, "role": part.role}
    checked = part.checked
    if checked:
        dataset = checked.dataset
        rows = zip(dataset.classes, dataset.counts(), checked.pictures_with(), strict=True)
        data |= {
            "layout": dataset.layout,
            "pictures": len(dataset),
            "decoded": len(checked.pictures),
            "classes": {
                name: {"objects": int(objects), "pictures": int(pictures)}
                for name, objects, pictures in rows
            },
            "background": dataset.left_out(),
            "too_small": checked.too_small,
            "hardly_inside": checked.hardly_inside,
            "far_from_anchors": checked.far_from_anchors,
        }
    return {**data, "findings": [vars(found) for found in part.findings]}


def _part_lines(part: CheckedPart) -> list[str]:
    checked = part.checked
    lines = [f"{part.root}, {part.split}, for {part.role}"]
    if checked:
        dataset = checked.dataset
        empty = sum(not len(item.objects) for item in dataset.items)
        lines[0] += f": {dataset.layout}, {len(dataset):,} pictures, {empty:,} without an object"
        column = max(len(name) for name in dataset.classes)
        lines.append(f"  {'':{column}}   objects  pictures")
        rows = zip(dataset.classes, dataset.counts(), checked.pictures_with(), strict=True)
        lines += [f"  {name:{column}}  {count:8,}  {where:8,}" for name, count, where in rows]
        left_out = ", ".join(f"{name} {count:,}" for name, count in dataset.left_out().items())
        if left_out:
            lines.append(f"  background, because these names belong to no class: {left_out}")
        lines += [f"  {text}: {count:,}" for text, count in _small(checked) if count]
    for kind, text in KINDS.items():
        found = [finding for finding in part.findings if finding.kind == kind]
        if found:
            lines.append(f"  {text}: {len(found):,}")
            lines += [f"    {finding.where}: {finding.what}" for finding in found[:SHOWN]]
            lines += _more(len(found))
    return [*lines, ""]


def _small(checked: Checked) -> list[tuple[str, int]]:
    return [
        ("too small in the network's input, ignored (augment.min_size)", checked.too_small),
        ("mostly outside the network's input, ignored (fit)", checked.hardly_inside),
        (
            f"smaller than the anchors suit (IoU under {FAR_FROM_ANCHORS:g} with each)",
            checked.far_from_anchors,
        ),
    ]


def _more(count: int) -> list[str]:
    return [f"    and {count - SHOWN:,} more; --json writes all of them"] if count > SHOWN else []
