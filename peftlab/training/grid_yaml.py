"""The YAML of a grid: every key is text and stands once, every value is written out."""

from pathlib import Path
from typing import Any

import yaml

from ..common.errors import PeftlabError, in_one_line

BYTES = 100_000  # at most, in one grid


class _Loader(yaml.SafeLoader):
    """As the module says."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.check_event()  # reads the next one
        event: Any = self.current_event
        if event.anchor or getattr(event, "tag", None):  # a few nested ones make a file of 1 kB fill the memory
            problem = "a grid has no anchors (&), aliases (*) and tags (!); write the value itself"
            raise yaml.constructor.ConstructorError(None, None, problem, event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        content: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                problem = "a grid has no merges (<<); write the keys themselves"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str) or key in content:
                wrong = "stands twice; remove one" if isinstance(key, str) else "is not text; put it in quotes"
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} {wrong}", key_node.start_mark)
            content[key] = self.construct_object(value_node, deep=True)
        return content


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises PeftlabError where there is none."""
    if not file.is_file():  # a pipe would keep us waiting
        raise PeftlabError("cannot be read, there is no such file; check the path")
    if file.stat().st_size > BYTES:
        raise PeftlabError(f"{file.stat().st_size:,} bytes, but a grid has at most {BYTES:,}; is it another file?")
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise PeftlabError(f"cannot be read as YAML: {line}{error.problem or error.context}") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # no text, no date, nested too deeply
        raise PeftlabError(f"cannot be read as YAML: {in_one_line(error)}") from None
    if not isinstance(content, dict) or not {"tasks", "methods"} <= content.keys():
        raise PeftlabError("a grid names its tasks and methods; see the README")
    return content
