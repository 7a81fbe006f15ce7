"""Documents keep up with the code, and the code keeps to its own house rules (CONTRIBUTING.md)."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

from tests.conftest import ROOT

PACKAGES = ("gateway", "drivers", "buffers", "uplink", "firmware_profiles")
MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def sections(document: str) -> list[tuple[str, str]]:
    """Heading and body of each part of a Markdown page."""
    parts = re.split(r"^#+ (.*)$", document, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


# ---------------------------------------------------------------- commands


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """The command and all below it, with the words that call each."""
    yield path, command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, f"{path} {name}")


def test_every_command_and_option_is_in_cli_md() -> None:
    from gateway.cli import main

    document = text("gateway/CLI.md")
    missing = []
    for path, command in commands(main, "fieldgate"):
        if path not in document:
            missing.append(path)
        options = [name for option in command.params for name in option.opts if name.startswith("--")]
        missing += [f"{path} {name}" for name in options if not re.search(rf"{name}(?![\w-])", document)]
        if not command.help:
            missing.append(f"{path}: no help text")
    assert not missing


def test_every_exit_code_is_in_cli_md() -> None:
    document = text("gateway/CLI.md")
    sources = "".join(path.read_text() for path in (ROOT / "gateway/commands").glob("*.py"))
    codes = set(re.findall(r"^[A-Z_]+: Final = (\d+)$", text("gateway/commands/output.py"), re.MULTILINE))
    codes |= set(re.findall(r"ctx\.exit\((\d+)\)", sources))
    assert codes
    assert not [code for code in sorted(codes) if not re.search(rf"^\| *`?{code}`? *\|", document, re.MULTILINE)]


# ---------------------------------------------------------------- configuration


def keys(kind: msgspec.inspect.Type, table: str = "") -> Iterator[tuple[str, str]]:
    """Every (table, key) of a configuration type; the variants of a union are named by their tag."""
    if isinstance(kind, msgspec.inspect.StructType):
        here = str(kind.tag) if kind.tag is not None else table
        for field in kind.fields:
            yield here, field.encode_name
            yield from keys(field.type, field.encode_name)
    elif isinstance(kind, msgspec.inspect.ListType):
        yield from keys(kind.item_type, table)
    elif isinstance(kind, msgspec.inspect.UnionType):
        for variant in kind.types:
            yield from keys(variant, table)


def test_every_configuration_key_is_in_config_md() -> None:
    """As `table.key`, or as `key` under a heading that names the table or the type of source."""
    from gateway.config import Config

    document = text("gateway/CONFIG.md")
    missing = []
    for table, key in keys(msgspec.inspect.type_info(Config)):
        under = [body for heading, body in sections(document) if re.search(rf"\b{re.escape(table)}\b", heading)]
        full = f"`{table}.{key}`" if table else f"`{key}`"
        if full not in document and f"`{key}`" not in "".join(under) and f"[{key}]" not in document:
            missing.append(full)
    assert not missing


# ---------------------------------------------------------------- interface, metrics, code map


def test_every_api_path_is_in_api_md() -> None:
    from gateway.api.openapi import document

    page = text("gateway/api/API.md")
    assert not [path for path in document()["paths"] if not re.search(rf"{re.escape(path)}(?![\w/{{])", page)]


def test_metrics_md_lists_exactly_the_metrics() -> None:
    from gateway.metrics import REGISTRY

    there = {f"{family.name}_total" if family.type == "counter" else family.name for family in REGISTRY.collect()}
    written = set(re.findall(r"^\| *`(gateway_\w+)`", text("gateway/METRICS.md"), re.MULTILINE))
    assert there == written


def test_architecture_md_names_every_package() -> None:
    page = text("ARCHITECTURE.md")
    folders = [path.parent.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")]
    assert not [str(folder) for folder in folders if not re.search(rf"`([\w/]+/)?{folder.name}[/`]", page)]


# ---------------------------------------------------------------- house rules


def committed() -> list[Path]:
    """Files that are in git or would be added by `git add .`."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for path in (ROOT / name for name in names.split("\0") if name) if path.is_file()]


FORBIDDEN = {
    "package registry": rb"pypi[.]org|pythonhosted[.]org|registry[.]npm|https?://[^ ]*/(simple|packages|dists)/",
    "path of one machine": rb"(?<![\w.~])/(work|root|farm|opt/pypi)/",
}


def test_no_registry_and_no_machine_path_is_committed() -> None:
    found = []
    for path in committed():
        content = path.read_bytes()
        if b"\0" in content:
            continue
        for what, pattern in FORBIDDEN.items():
            for match in re.finditer(pattern, content):
                line = content.count(b"\n", 0, match.start()) + 1
                found.append(f"{path.relative_to(ROOT)}:{line}: {what}: {match[0].decode()}")
    assert not found


def sources() -> list[Path]:
    modules = [path for folder in (*PACKAGES, "tests") for path in sorted((ROOT / folder).rglob("*.py"))]
    return [*modules, ROOT / "dev"]


def test_init_files_are_empty() -> None:
    assert not [str(path) for path in sources() if path.name == "__init__.py" and path.stat().st_size]


def test_every_module_has_a_docstring_and_nothing_is_too_long() -> None:
    wrong = []
    for path in sources():
        source = path.read_text(encoding="utf-8")
        name = path.relative_to(ROOT)
        tree = ast.parse(source)
        if source and name.parts[0] != "tests" and not ast.get_docstring(tree):
            wrong.append(f"{name}: no docstring")
        lines = source.count("\n")
        if lines > MODULE_LINES_MAX:
            wrong.append(f"{name}: {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    wrong.append(f"{name}:{node.lineno}: {node.name} has {length} lines")
    assert not wrong


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links_between_documents_lead_somewhere(name: str) -> None:
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text(name))
    assert not [target for target in targets if not (ROOT / name).parent.joinpath(target).exists()]
