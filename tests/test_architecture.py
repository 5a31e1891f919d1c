"""The map of the code, kept true: who imports whom, read from the sources."""

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("portal", "requests_app")
AWS_SDK = {"boto3", "botocore", "s3transfer", "mypy_boto3_sts"}


def sources(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert found, folders
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Full names of everything this file imports, also inside functions and for type checkers."""
    return set(_imports(ast.parse(path.read_text()), module_name(path), path.name == "__init__.py"))


def _imports(tree: ast.Module, module: str, is_package: bool) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = module.split(".") if is_package else module.split(".")[:-1]
                base = ".".join([*here[: len(here) - node.level + 1], *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def trespasses(folder: str, *forbidden: str, except_in: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(folder)
        if not any(path.is_relative_to(ROOT / part) for part in except_in)
        for name in sorted(imports(path))
        if any(is_within(name, package) for package in forbidden)
    ]


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        # domain <- aws <- background, domain <- delivery
        ("requests_app/domain", ("requests_app.aws", "requests_app.background", "requests_app.delivery")),
        ("requests_app/domain", ("requests_app.models", "requests_app.admin", "portal")),
        ("requests_app/aws", ("requests_app.background", "requests_app.delivery", "portal", "django", "celery")),
        ("requests_app/aws", ("requests_app.domain.models", "requests_app.domain.workflow", "requests_app.models")),
        ("requests_app/background", ("requests_app.delivery", "portal")),
        # The web process has no AWS identity, so it must not even hold the code path.
        ("requests_app/delivery", ("requests_app.aws", "requests_app.background", "portal", *AWS_SDK)),
        ("requests_app/templatetags", ("requests_app.aws", "requests_app.background")),
    ],
)
def test_imports_flow_one_way(folder: str, forbidden: tuple[str, ...]) -> None:
    assert trespasses(folder, *forbidden) == []


def test_the_only_command_that_asks_aws_is_the_one_that_an_administrator_runs() -> None:
    """All others run beside the web process, with no AWS identity."""
    prove = "requests_app/management/commands/prove.py"
    assert (
        trespasses("requests_app/management", "requests_app.aws", "requests_app.background", except_in=(prove,)) == []
    )
    ours = {name for name in imports(ROOT / prove) if is_within(name, "requests_app")}
    assert all(is_within(name, "requests_app.aws") for name in ours), ours


@pytest.mark.parametrize("package", PRODUCT)
def test_only_the_adapter_knows_the_aws_sdk(package: str) -> None:
    assert trespasses(package, *AWS_SDK, except_in=("requests_app/aws",)) == []
    assert any(AWS_SDK & {name.split(".")[0] for name in imports(path)} for path in sources("requests_app/aws"))


@pytest.mark.parametrize("package", PRODUCT)
def test_the_product_knows_neither_sandbox_nor_tests(package: str) -> None:
    assert trespasses(package, "sandbox", "tests", "bench", "pytest", "ministack", "moto") == []


def test_an_array_that_was_asked_for_is_never_null() -> None:
    """Django's own is NULL where it knows without asking that nothing is in it."""
    for package in PRODUCT:
        except_in = ("requests_app/domain/models/arrays.py",)
        assert trespasses(package, "django.contrib.postgres.expressions", except_in=except_in) == []
        assert trespasses(package, "django.contrib.postgres.aggregates") == []


def test_no_module_needs_one_that_needs_it() -> None:
    """No circle of imports, those for type checkers and those inside functions counted."""
    paths = {module_name(path): path for path in sources(*PRODUCT, "sandbox")}
    needs = {name: _modules_needed(path, paths.keys()) - {name} for name, path in paths.items()}
    # Whatever needs none of the rest is in no circle, and whatever none of the rest needs.
    while outside := {
        name for name in needs if not needs[name] & needs.keys() or name not in set().union(*needs.values())
    }:
        needs = {name: wanted for name, wanted in needs.items() if name not in outside}
    assert needs == {}


def _modules_needed(path: Path, modules: Collection[str]) -> set[str]:
    """Of `from package import module` that is the module: the package is there before it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= whole & set(modules)
            found |= {node.module} if whole - set(modules) else set()
    return found & set(modules)


def test_imports_stand_at_the_top() -> None:
    """But where Django has models only once it is set up, and where sandbox sets it up itself."""
    late = [
        f"{path.relative_to(ROOT)}:{inner.lineno}"
        for path in sources(*PRODUCT)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]
    assert [place.rpartition(":")[0] for place in late] == ["requests_app/apps.py"], late


def test_portal_only_wires() -> None:
    """It names things of ours; rules and rows are none of its business."""
    forbidden = ("requests_app.domain.workflow", "requests_app.domain.policy", "requests_app.domain.models")
    assert trespasses("portal", *forbidden, "requests_app.models", "requests_app.aws") == []


def test_celery_is_known_where_it_belongs() -> None:
    # Domain nudges by name; delivery does not know that there are workers.
    assert trespasses("requests_app/delivery", "celery", "kombu") == []
    assert trespasses("requests_app/domain", "celery", "kombu", except_in=("requests_app/domain/jobs.py",)) == []


def test_inside_the_domain_rules_know_no_rows_and_models_know_no_verbs() -> None:
    assert trespasses("requests_app/domain/models", "requests_app.domain.workflow", "requests_app.domain.policy") == []
    assert trespasses("requests_app/domain/models", "requests_app.domain.audit", "requests_app.domain.notices") == []
    pure = {"policy", "transitions", "terms", "errors", "codes", "liftable", "narrowing", "outliving", "partitions"}
    pure |= {"sealing"}
    for path in sources("requests_app/domain"):
        if path.parent.name != "domain" or path.stem not in pure:
            continue
        names = imports(path)
        assert not [name for name in names if is_within(name, "requests_app.domain.models")], path
        assert not [name for name in names if is_within(name, "django.db") and path.stem != "transitions"], path


def test_only_the_workflow_and_the_models_write_requests() -> None:
    """No door saves a request, a decision, a delivery or a session by itself."""
    written = {"save", "update", "create", "bulk_create", "delete", "bulk_update", "get_or_create", "update_or_create"}
    models = {"AccessRequest", "Decision", "Delivery", "IssuedSession", "AuditEvent"}
    found = []
    for path in sources("requests_app/delivery", "requests_app/background", "requests_app/management", "portal"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in written:
                root = _root(node.func)
                if root in models:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno} {root}…{node.func.attr}()")
    assert found == []


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Call):
        node = node.value if isinstance(node, ast.Attribute) else node.func
    return node.id if isinstance(node, ast.Name) else ""


def test_the_reader_of_imports_reads_them_all() -> None:
    """The control: each form of an import is seen."""
    text = (
        "import boto3.session\nfrom requests_app import aws\nfrom . import errors\nfrom ..aws import sts\n"
        "def f():\n    import importlib\n    importlib.import_module('requests_app.background')\n"
    )
    seen = set(_imports(ast.parse(text), "requests_app.domain.policy", is_package=False))
    assert {
        "boto3.session",
        "requests_app.aws",
        "requests_app.domain.errors",
        "requests_app.aws.sts",
        "requests_app.background",
    } <= seen
