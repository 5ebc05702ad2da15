"""A configuration file before the parser reads it: what YAML would drop without a word, or never come to an end of."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from zoo.cli.errors import UserError, describe

LARGEST_DEPTH, LARGEST_NUMBER = 30, 10_000
"""Of settings: what is deeper or longer is a mistake, or a few lines of aliases that stand for millions."""
MERGE = "tag:yaml.org,2002:merge"
"""What YAML calls the key `<<`."""
GROUPS: dict[str, tuple[tuple[type, ...], str]] = {
    "model": ((str, dict), "a name, or settings such as {class_path: mlp}"),
    "data": ((str, dict), "a name, or settings such as {class_path: digits}"),
    "trainer": ((dict,), "settings, such as {max_epochs: 3}"),
    "recipe": ((dict,), "settings, such as {name: paper}"),
    "finetune": ((str, dict), "a method, or settings such as {method: linear}"),
}
"""Settings that have settings: what they may be, and an example."""


def read_config(source: str) -> dict[str, Any]:
    """The settings in a configuration file, or in the text of one; empty where the parser will say what is wrong.

    Args:
        source: A path, or YAML, as `--config` takes them.

    Raises:
        UserError: If a setting stands there twice, settings are nested too deeply, or the file names another.
    """
    try:
        if Path(source).exists() and not Path(source).is_file():
            raise UserError(f"'{source}' is no file: name a configuration file")
        text = Path(source).read_text() if Path(source).is_file() else source
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _check_settings(source, node)
        content = yaml.safe_load(text)
    except RecursionError:
        raise UserError(_too_deep(source)) from None
    except UnicodeDecodeError as error:
        raise UserError(f"'{source}' is no text in UTF-8: {error.reason} at byte {error.start}") from None
    except (yaml.YAMLError, OSError):
        return {}  # the parser says what is wrong
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:  # a value such as !!int x
        raise UserError(f"'{source}': {describe(error)}") from None
    if isinstance(content, dict):
        _check_content(source, content)
        return content
    if Path(source).is_file():
        raise UserError(f"'{source}' has no settings, such as model: mlp")
    return {}


def _check_content(source: str, content: dict[Any, Any]) -> None:
    if "config" in content:
        raise UserError(f"'{source}' names another file as config: give both to --config, in the order that they count")
    for group, (kinds, example) in GROUPS.items():
        if group in content and not isinstance(content[group], kinds):
            what = "null" if content[group] is None else content[group]
            raise UserError(f"{group} is {what}: it must be {example}")
    for group in ("model", "data"):
        settings = content.get(group)
        if not isinstance(settings, dict) or "class_path" not in settings:
            continue
        for name in settings.keys() - {"class_path", "init_args"}:
            raise UserError(f"{group}.{name} is {settings[name]}: arguments go into {group}.init_args")
        arguments = settings.get("init_args", {})
        if not isinstance(arguments, dict):
            what = "null" if arguments is None else arguments
            raise UserError(f"{group}.init_args is {what}: it must be settings, or be left out")


def _check_settings(source: str, node: yaml.Node | None) -> None:
    lines: dict[str, int] = {}
    for number, (name, line) in enumerate(_settings(source, node)):
        if number > LARGEST_NUMBER:
            raise UserError(f"'{source}' has more than {LARGEST_NUMBER:,} settings")
        if name in lines:
            raise UserError(f"'{source}' says {name} twice, in lines {lines[name]} and {line}: say it once")
        lines[name] = line


def _settings(source: str, node: yaml.Node | None, name: str = "", depth: int = 0) -> Iterator[tuple[str, int]]:
    """The full name of every setting under a node, and its line."""
    if depth > LARGEST_DEPTH:
        raise UserError(_too_deep(source))
    if isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            yield from _settings(source, value, f"{name}[{position}]", depth + 1)
            yield f"{name}[{position}]", value.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        merges = [key for key, _ in node.value if key.tag == MERGE]
        if len(merges) > 1:
            lines = " and ".join(str(key.start_mark.line + 1) for key in merges[:2])
            raise UserError(f"'{source}' merges twice into one place (<<), in lines {lines}: write <<: [*one, *other]")
        for key, value in node.value:
            if key.tag == MERGE:  # what is merged gives way to what stands there
                continue
            full = f"{name}.{key.value}".removeprefix(".").replace(".init_args.", ".").removesuffix(".init_args")
            if key.value != "init_args":
                yield full, key.start_mark.line + 1
            yield from _settings(source, value, full, depth + 1)


def _too_deep(source: str) -> str:
    what = f"'{source}'" if len(source) < 100 else "the configuration"
    return f"{what} is nested too deeply: settings have at most {LARGEST_DEPTH} levels"
