"""What the project promises about its packages and files."""

import importlib
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import cnn_core
import convpool.client
import service

PROJECT = Path(__file__).parents[2]
LOCKS = ("service", "build", "dev", "browser", "supply")
MODULES = [
    module.name
    for package in (cnn_core, service, convpool.client)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
] + ["convpool.cases", "convpool.testing"]


@pytest.mark.parametrize("name", MODULES)
def test_all_names_what_a_module_defines(name: str) -> None:
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])
    assert all(hasattr(module, public) for public in listed)
    assert len(set(listed)) == len(listed)


def test_the_core_s_public_names() -> None:
    """What people import: a name may be added here, and none may go."""
    convolutions = {"Conv", "ConvGradients", "ConvInteger", "ConvTranspose", "QLinearConv", "Unfold", "Fold"}
    poolings = {"AvgPool", "LpPool", "MaxPool", "MaxPoolResult", "MaxUnpool"}
    errors = {"ConvpoolError", "DtypeError", "OperandError", "ParameterError", "ShapeError"}
    running = {"get_threads", "set_threads", "Cancellation", "Cancelled", "DeadlineExceeded"}
    assert set(cnn_core.__all__) == convolutions | poolings | errors | {"__version__"} | running


def test_the_core_needs_numpy_only() -> None:
    script = (
        "import sys, cnn_core; "
        "own = {name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names); "
        "print(sorted(name for name in own if not name.startswith('_')))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PROJECT
    ).stdout
    assert not {"pydantic", "fastapi", "starlette", "orjson", "threadpoolctl", "service"} & set(
        re.findall(r"\w+", found)
    )
    assert "numpy" in found


@pytest.mark.parametrize("name", LOCKS)
def test_lock_files_pin_and_hash_everything_and_name_no_index(name: str) -> None:
    text = (PROJECT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    assert "--index" not in text
    requirements = re.findall(r"^([a-z0-9][^\n]*)\n((?:    [^\n]*\n)*)", text, re.MULTILINE)
    assert requirements
    for requirement, details in requirements:
        assert "==" in requirement, requirement
        assert "--hash=sha256:" in details, requirement


def test_the_direct_dependencies_are_locked() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for lock, dependencies in {"service": project["dependencies"] + extras["service"], "dev": extras["client"]}.items():
        locked = (PROJECT / "requirements" / f"{lock}.txt").read_text()
        for dependency in dependencies:
            name = re.match(r"[A-Za-z0-9.-]+", dependency)
            assert name is not None
            assert re.search(rf"^{name.group().replace('.', '-')}==", locked, re.MULTILINE), dependency


def test_the_changelog_has_the_version() -> None:
    assert f"## {cnn_core.__version__}" in (PROJECT / "CHANGELOG.md").read_text()


def test_no_module_is_too_long_to_be_one_thing() -> None:
    for package in ("convpool", "cnn_core", "service", "tests", "reliability"):
        for path in (PROJECT / package).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 400, path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's packages, and one of a project whose packages have the names of the checkout's."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(PROJECT)]
    subprocess.run([*pip, *build], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    target = ["--target", str(folder / "packages")]
    subprocess.run([*pip, "install", "--no-deps", *target, str(wheel)], check=True, capture_output=True)
    for name in ("service", "cnn_core"):
        (folder / "project" / name).mkdir(parents=True)
        (folder / "project" / name / "__init__.py").write_text("theirs = True\n")
    return folder


def run_installed(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(folder / name) for name in ("project", "packages"))}
    ended = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_wheel_has_one_package_and_gets_along_with_others_of_the_checkout_s_names(installed: Path) -> None:
    packages = installed / "packages"
    folders = {path.name for path in packages.iterdir() if "dist-info" not in path.name}
    assert folders == {"convpool", "bin"}
    script = (
        "import cnn_core, service, convpool, convpool.cnn_core, convpool.service.app; "
        "assert cnn_core.theirs and service.theirs; "
        "assert convpool.Conv is convpool.cnn_core.Conv; "
        "print(convpool.__file__, len(convpool.service.app.create_app().routes))"
    )
    assert run_installed(installed, "-c", script).startswith(str(packages))
    assert "--port" in run_installed(installed, str(packages / "bin" / "convpool"), "serve", "--help")


def test_the_wheel_has_the_files_of_the_playground(installed: Path) -> None:
    def files(package: Path) -> dict[str, bytes]:
        folder = package / "service" / "playground"
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert "index.html" in files(PROJECT)
    assert files(installed / "packages" / "convpool") == files(PROJECT)


def test_the_wheel_has_the_pages_and_the_pictures_in_them(installed: Path) -> None:
    pages = {path.name: path.read_text() for path in (PROJECT / "docs").glob("*.md")}
    pictures = {name for page in pages.values() for name in re.findall(r"!\[.*?\]\((.*?)\)", page)}
    copied = {path.name for path in (installed / "packages" / "convpool" / "docs").iterdir()}
    assert copied == set(pages) | pictures
    script = (
        "from convpool.service.documentation.pages import documentation_pages; "
        "print('/docs/where-frameworks-disagree.md' in documentation_pages())"
    )
    assert run_installed(installed, "-c", script) == "True\n"


def test_the_image_is_built_with_what_the_wheel_is_built_from() -> None:
    copied = re.findall(r"^COPY (\w+)/ \1/$", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)
    allowed = re.findall(r"^!(\w+)/(?:\*\.(\w+))?$", (PROJECT / ".dockerignore").read_text(), re.MULTILINE)
    assert {"convpool", "cnn_core", "service", "docs"} <= set(copied) == {folder for folder, _ in allowed}
    assert {suffix for folder, suffix in allowed if folder == "docs"} == {"md", "png"}


def test_the_wheel_needs_numpy_alone_and_says_what_serving_needs(installed: Path) -> None:
    (metadata,) = (installed / "packages").glob("convpool-*.dist-info/METADATA")
    required = re.findall(r"^Requires-Dist: (.*)$", metadata.read_text(), re.MULTILINE)
    assert [each for each in required if "extra ==" not in each] == ["numpy>=2.1"]
    script = (
        "import sys; sys.modules['uvicorn'] = None; import convpool.__main__ as command\n"
        "try: command.main(['serve'])\n"
        "except SystemExit as error: print(error)"
    )
    assert "pip install 'convpool[service]'" in run_installed(installed, "-c", script)


def test_the_client_runs_from_the_wheel(installed: Path) -> None:
    script = (
        "import numpy as np, convpool.client, convpool.testing\n"
        "np.save('x.npy', np.ones((1, 4, 1)))\n"
        "with convpool.client.Client(local=True) as client:\n"
        "    print(client.unfold_forward(np.load('x.npy'), kernel_size=2).shape)"
    )
    assert run_installed(installed, "-c", script) == "(1, 3, 2)\n"
    command = ["call", "pool/forward", "--local", "--input", "x.npy", "--mode", "avg", "--kernel-size", "4"]
    assert run_installed(installed, "-m", "convpool", *command) == "output: float64 (1, 1, 1)\n[[[1.]]]\n"
