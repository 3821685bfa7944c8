"""Parses YAML into plain values with their positions. Every error in the text is an InputError with file and line.

A document's bytes, depth and expanded size are limited before anything else reads it, so that no file hangs or
overflows its reader. Scalars are null, bool, int, float and text; a YAML date stays text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from orchestrator.errors import InputError

MAX_BYTES = 1 << 20
MAX_DEPTH = 40
MAX_VALUES = 20_000
MAX_NUMBER_DIGITS = 64  # longer numbers take quadratic time to parse, and no field holds them

Position: TypeAlias = tuple[str | int, ...]

REMEDY = "`orchestrator init` writes a hosts.yaml and a matrix.yaml"

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SCALARS = yaml.constructor.SafeConstructor()
_RESOLVER: Any = yaml.resolver.Resolver()
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")  # 1e-2, which YAML 1.1 reads as text
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Document:
    """A file's content. marks: `file:line` of each key and list item, by its position from the root.

    folder: the folder that contains the file.
    """

    value: Any
    marks: Mapping[Position, str]
    folder: Path = Path()

    def where(self, position: Position) -> str:
        """Returns `file:line` of the position, or of its nearest parent that has one."""
        while position and position not in self.marks:
            position = position[:-1]
        return self.marks[position]


def read(path: Path, remedy: str = "") -> Document:
    """Reads a YAML file. Raises InputError if the path is not a readable YAML file within the size limit.

    remedy: what to do if the file is missing or empty.
    """
    return replace(parse(_bytes(path, remedy), str(path), remedy), folder=path.parent)


def _bytes(path: Path, remedy: str) -> bytes:
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; give the file in it")
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: is not a regular file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file{remedy and f'; {remedy}'}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{str(path)!r}: cannot be read: {reason}") from error
    return content


def parse(content: bytes, name: str, remedy: str = "") -> Document:
    """Parses the single YAML document in `content`. name: the file, in messages. remedy: what to do if it is empty."""
    if len(content) > MAX_BYTES:
        raise InputError(f"{name}: is larger than {MAX_BYTES >> 20} MiB; no such file needs that")
    text = _decoded(content, name)
    try:
        _check_size(text, name)
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line if mark else 0
        has_tab = "\t" in "".join(text.splitlines()[line : line + 1])
        said = ", ".join(part for part in (error.context, error.problem) if part)
        advice = "; there is a tab: indent with spaces" if has_tab else ""
        raise InputError(f"{name}:{line + 1}: is not YAML: {said}{advice}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{name}: is not YAML: {str(error).splitlines()[0]}") from error
    if root is None:
        raise InputError(f"{name}: is empty{remedy and f'; {remedy}'}")
    reading = _Reading(name)
    value = reading.value(root, (), ())
    if reading.problems:
        raise InputError(dict.fromkeys(reading.problems))
    return Document(value, reading.marks)


def plain(text: str) -> Any:
    """Parses an unquoted scalar as in a file. Raises ValueError."""
    return _scalar(ScalarNode(_RESOLVER.resolve(ScalarNode, text, (True, False)), text))


def _decoded(content: bytes, name: str) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name}:{line}: is not UTF-8 text (byte 0x{content[error.start]:02x})") from error
    if found := re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text):
        line = text.count("\n", 0, found.start()) + 1
        raise InputError(f"{name}:{line}: holds the control character {found.group()!r}, so it is not a text file")
    return text


def _check_size(text: str, name: str) -> None:
    """Checks the size before composing, which recurses in C, can overflow the stack, and takes seconds for 1 MiB."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if count > 2 * MAX_VALUES:
            raise InputError(f"{name}: holds more than {MAX_VALUES} values")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise InputError(f"{name}:{_line(event)}: is nested more than {MAX_DEPTH} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _line(parsed: Any) -> int:
    """Returns the line of a node or an event."""
    return int(parsed.start_mark.line) + 1


def _scalar(node: ScalarNode) -> Any:
    """Parses a scalar. Raises ValueError if its text does not match its tag."""
    text, tag = node.value, node.tag.removeprefix(_TAG)
    if _NOT_TEXT.search(text):
        raise ValueError("holds a control character")
    if tag in ("int", "float") and len(text) > MAX_NUMBER_DIGITS:
        raise ValueError("is too long for a number")
    try:
        match tag:
            case "null":
                return None
            case "bool":
                return _SCALARS.construct_yaml_bool(node)
            case "int":
                return _SCALARS.construct_yaml_int(node)
            case "float":
                return _SCALARS.construct_yaml_float(node)
            case "str" if not node.style and _EXPONENT.fullmatch(text):
                return float(text)
            case "str" | "timestamp" | "value":
                return text
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise ValueError(f"is not a YAML {tag}") from error
    raise ValueError(f"has the tag {node.tag}, and only plain values are read here")


class _Reading:
    """One pass over a node graph: expands aliases into values, and collects marks and problems."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.marks: dict[Position, str] = {}
        self.problems: list[str] = []
        self.count = 0

    def value(self, node: Node, at: Position, above: tuple[Node, ...]) -> Any:
        """Converts a node. above: the nodes that enclose this one; meeting one of them again is a cycle."""
        self.count += 1
        if self.count > MAX_VALUES:
            raise InputError(f"{self.name}: holds more than {MAX_VALUES} values, aliases expanded")
        self.marks.setdefault(at, self._where(node))
        if any(node is outer for outer in above):
            raise InputError(f"{self._where(node)}: an alias refers to what it stands in: a cycle")
        if len(above) > MAX_DEPTH:
            raise InputError(f"{self._where(node)}: is nested more than {MAX_DEPTH} deep")
        if isinstance(node, ScalarNode):
            try:
                return _scalar(node)
            except ValueError as error:
                self._problem(node, f"{_shortened(node.value)} {error}")
                return None
        if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
            return [self.value(item, (*at, i), (*above, node)) for i, item in enumerate(node.value)]
        if isinstance(node, MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, at, (*above, node))
        self._problem(node, f"has the tag {node.tag}, and only plain values are read here")
        return None

    def _mapping(self, node: MappingNode, at: Position, above: tuple[Node, ...]) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                for source in self._merge_sources(value_node):
                    merged = {**self.value(source, (*at, "<<"), above), **merged}
                continue
            key = self._key(key_node)
            if key is None:
                continue
            if key in own:
                self._problem(key_node, f"{key!r} appears twice; it is first in line {self._line_of((*at, key))}")
            inner = (*at, key)
            self.marks[inner] = self._where(key_node)
            own[key] = self.value(value_node, inner, above)
        for key in merged.keys() - own.keys():
            inner = (*at, key)
            self.marks[inner] = self._where(node)
        return {**merged, **own}

    def _merge_sources(self, node: Node) -> Iterator[MappingNode]:
        for source in node.value if isinstance(node, SequenceNode) else [node]:
            if isinstance(source, MappingNode) and source.tag == _TAG + "map":
                yield source
            else:
                self._problem(source, "only keys and values can be merged by '<<'")

    def _key(self, node: Node) -> str | None:
        if not isinstance(node, ScalarNode):
            self._problem(node, "a key must be text, not a list or keys and values")
            return None
        try:
            key = _scalar(node)
        except ValueError as error:
            self._problem(node, f"the key {_shortened(node.value)} {error}")
            return None
        if isinstance(key, str):
            return key
        self._problem(node, f"a key must be text, and {_shortened(node.value)} is read as {key}: put it in quotes")
        return None

    def _line_of(self, at: Position) -> str:
        return self.marks[at].rsplit(":", 1)[1]

    def _where(self, node: Node) -> str:
        return f"{self.name}:{_line(node)}"

    def _problem(self, node: Node, message: str) -> None:
        self.problems.append(f"{self._where(node)}: {message}")


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")
