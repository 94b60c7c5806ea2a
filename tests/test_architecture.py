"""The shape of the package: who imports whom, and what may never appear where."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mpcpriv"

# Between a launcher and the processes that it started itself; its docstring says why that is safe.
PICKLES = {"party/pipe.py"}

# `secrets`, `os.urandom` and `cryptography` are where randomness comes from.
RANDOM_MODULES = {"random", "numpy.random", "np.random", "torch.random"}
TORCH_RANDOM = {
    "Generator",
    "bernoulli",
    "dropout",
    "get_rng_state",
    "initial_seed",
    "manual_seed",
    "multinomial",
    "normal",
    "poisson",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "randperm",
    "seed",
    "set_rng_state",
}
TENSOR_RANDOM = {
    "bernoulli_",
    "cauchy_",
    "exponential_",
    "geometric_",
    "log_normal_",
    "normal_",
    "random_",
    "uniform_",
}


def is_generated(path: Path) -> bool:
    return "_pb2" in path.name


def sources() -> list[str]:
    return sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if not is_generated(path))


def tree(name: str) -> ast.Module:
    return ast.parse((PACKAGE / name).read_text(), name)


def dotted(node: ast.expr) -> str:
    """`a.b.c` for an attribute chain on a name, else what is known of its end."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return "?"


def imported(module: ast.Module) -> Iterator[str]:
    """Every module, and every member of one, that is imported anywhere in a file, also inside functions."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and dotted(node.func) in {"importlib.import_module", "__import__"}:
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant):
                    yield str(argument.value)


def under(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def attributes(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute | ast.Name):
            yield dotted(node)


def forbidden_randomness(module: ast.Module) -> set[str]:
    found = {name for name in imported(module) if under(name, RANDOM_MODULES)}
    found |= {name for name in imported(module) if name in {f"torch.{item}" for item in TORCH_RANDOM}}
    for name in attributes(module):
        parts = name.split(".")
        if under(name, RANDOM_MODULES - {"random"}):
            found.add(name)
        # `torch.rand`, `torch.cuda.manual_seed`, `torch.nn.functional.dropout` ...
        if len(parts) > 1 and parts[0] == "torch" and parts[-1] in TORCH_RANDOM:
            found.add(name)
        if len(parts) > 1 and parts[-1] in TENSOR_RANDOM:
            found.add(name)
        if len(parts) > 1 and parts[-1] == "default_rng":
            found.add(name)
    return found


def forbidden_loading(module: ast.Module) -> set[str]:
    found = {
        name
        for name in imported(module)
        if under(
            name, {"pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "torch.load", "torch.save"}
        )
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and dotted(node.func) in {"eval", "exec", "torch.load", "torch.save"}:
            found.add(dotted(node.func))
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found.add("allow_pickle")
    return found


def insecure_network(module: ast.Module) -> set[str]:
    found = {
        name
        for name in [*attributes(module), *imported(module)]
        if name.split(".")[-1] in {"insecure_channel", "add_insecure_port", "_create_unverified_context"}
    }
    keywords = (node for node in ast.walk(module) if isinstance(node, ast.keyword))
    for keyword in keywords:
        off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        if off and keyword.arg in {"verify", "check_hostname"}:
            found.add(f"{keyword.arg}=False")
    return found


def openings(module: ast.Module) -> set[str]:
    return {
        name
        for name in attributes(module)
        if "." in name and name.split(".")[-1] in {"get_plain_text", "reveal", "open_to"}
    }


def test_imports_point_one_way() -> None:
    result = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", sources())
def test_crypten_is_imported_in_the_engine_only(name: str) -> None:
    if not name.startswith("engine/"):
        assert not [item for item in imported(tree(name)) if under(item, {"crypten"})]


@pytest.mark.parametrize("name", sources())
def test_shared_values_are_opened_in_release_and_in_the_engine_only(name: str) -> None:
    # The demo's hospitals run without an agreement, and open their model themselves.
    if name not in {"release.py", "demo/hospital.py"} and not name.startswith("engine/"):
        assert not openings(tree(name))


@pytest.mark.parametrize("name", sources())
def test_nothing_is_loaded_that_could_run_code(name: str) -> None:
    if name not in PICKLES:
        assert not forbidden_loading(tree(name))


@pytest.mark.parametrize("name", sources())
def test_no_connection_without_mutual_tls(name: str) -> None:
    assert not insecure_network(tree(name))


@pytest.mark.parametrize("name", sources())
def test_no_randomness_but_the_operating_systems_and_aes(name: str) -> None:
    assert not forbidden_randomness(tree(name))


@pytest.mark.parametrize("name", sources())
def test_a_file_holds_one_idea(name: str) -> None:
    assert Path(name).name not in {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}
    lines = (PACKAGE / name).read_text().count("\n")
    assert lines <= 500, f"{name} has {lines} lines: make it two files"


def in_fresh_process(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_the_package_has_no_side_effect() -> None:
    seen = json.loads(
        in_fresh_process(
            "import os, sys, threading, json, signal\n"
            "files = set(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else set()\n"
            "environment, argv, path = dict(os.environ), list(sys.argv), list(sys.path)\n"
            "handler = signal.getsignal(signal.SIGINT)\n"
            "import mpcpriv\n"
            "after = set(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else set()\n"
            "heavy = ['torch', 'crypten', 'grpc', 'numpy', 'numba', 'typer', 'pydantic', 'cryptography']\n"
            "print(json.dumps({\n"
            "    'heavy': [name for name in heavy if name in sys.modules],\n"
            "    'threads': threading.active_count(),\n"
            "    'descriptors': len(after) - len(files),\n"
            "    'environment': environment != dict(os.environ),\n"
            "    'argv': argv != sys.argv or path != sys.path,\n"
            "    'signals': handler is not signal.getsignal(signal.SIGINT),\n"
            "}))"
        )
    )
    assert seen == {
        "heavy": [],
        "threads": 1,
        "descriptors": 0,
        "environment": False,
        "argv": False,
        "signals": False,
    }


def test_help_does_not_wait_for_torch() -> None:
    heavy = in_fresh_process(
        "import sys, mpcpriv.cli\n"
        "print([name for name in ('torch', 'crypten', 'grpc', 'numpy', 'numba') if name in sys.modules])"
    )
    assert heavy.strip() == "[]"


def test_all_is_exact() -> None:
    import mpcpriv

    assert sorted(mpcpriv.__all__) == list(dict.fromkeys(sorted(mpcpriv.__all__)))
    # What a module has beyond `__all__` is its submodules and what it was made with.
    made_with = {"annotations", "importlib", "TYPE_CHECKING"}
    submodules = {path.stem for path in PACKAGE.iterdir() if not path.name.startswith("__")}
    public = {name for name in vars(mpcpriv) if not name.startswith("_")} - made_with
    assert public - submodules <= set(mpcpriv.__all__)
    errors = {name for name in vars(__import__("mpcpriv.errors").errors) if name[0].isupper()}
    assert errors <= set(mpcpriv.__all__)
    assert set(dir(mpcpriv)) == set(mpcpriv.__all__)
    for name in mpcpriv.__all__:
        assert getattr(mpcpriv, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        mpcpriv.nothing_of_the_kind  # noqa: B018


@pytest.mark.parametrize(
    ("check", "code"),
    [
        (forbidden_loading, "import pickle"),
        (forbidden_loading, "from pickle import loads"),
        (forbidden_loading, "import torch\ntorch.load('x')"),
        (forbidden_loading, "from torch import load"),
        (forbidden_loading, "eval('1')"),
        (forbidden_loading, "numpy.load('x', allow_pickle=True)"),
        (insecure_network, "grpc.insecure_channel('x')"),
        (insecure_network, "from grpc import insecure_channel"),
        (insecure_network, "server.add_insecure_port('x')"),
        (insecure_network, "get('x', verify=False)"),
        (openings, "x.get_plain_text(dst=0)"),
        (openings, "f(x).reveal()"),
        (openings, "session.open_to('a result', share, [0])"),
        (forbidden_randomness, "import random"),
        (forbidden_randomness, "from random import getrandbits"),
        (forbidden_randomness, "def f():\n    import numpy.random"),
        (forbidden_randomness, "from numpy import random"),
        (forbidden_randomness, "import numpy as np\nnp.random.rand(3)"),
        (forbidden_randomness, "torch.rand(3)"),
        (forbidden_randomness, "torch.randint_like(x, 3)"),
        (forbidden_randomness, "torch.Generator()"),
        (forbidden_randomness, "from torch import Generator"),
        (forbidden_randomness, "torch.empty(3).random_()"),
        (forbidden_randomness, "torch.cuda.manual_seed(3)"),
        (forbidden_randomness, "importlib.import_module('random')"),
    ],
)
def test_each_check_sees_what_it_looks_for(check: object, code: str) -> None:
    assert callable(check)
    assert check(ast.parse(code))
