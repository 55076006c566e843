"""Where packages go in the image: a virtual environment made of files, or a conda environment. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from imagesmith import Contribution

__all__ = ["RUNTIME", "VENV", "Prefix", "Python", "skeleton", "venv_contribution"]

VENV = "/opt/venv"
RUNTIME = "/opt/imagesmith"


@dataclass(frozen=True, slots=True)
class Python:
    """The python of an image: ``executable`` is the real file, with no link on the way."""

    executable: str
    version: str
    """``3.11.2``, or ``3.11`` where no more is known"""
    extra_site: str = ""
    """the packages of a virtual environment that it was found in"""

    @property
    def minor(self) -> str:
        """``3.11``."""
        return ".".join(self.version.split(".")[:2])


@dataclass(frozen=True, slots=True)
class Prefix:
    """An environment at ``root`` for python ``minor``."""

    root: str
    minor: str

    @property
    def python(self) -> str:
        """What stands in the first line of scripts."""
        return f"{self.root}/bin/python"

    @property
    def top(self) -> str:
        """The root as a path in an archive."""
        return self.root.lstrip("/")

    @property
    def site(self) -> str:
        """The folder of packages, as a path in an archive."""
        return f"{self.top}/lib/python{self.minor}/site-packages"

    def folder(self, scheme: str, distribution: str) -> str | None:
        """Where an installation scheme of a wheel lands; None for one that is none."""
        return {
            "purelib": self.site,
            "platlib": self.site,
            "scripts": f"{self.top}/bin",
            "data": self.top,
            "headers": f"{self.top}/include/site/python{self.minor}/{distribution}",
        }.get(scheme)


def venv_contribution() -> Contribution:
    """What the configuration needs for it."""
    return Contribution((f"{VENV}/bin",))


def skeleton(python: Python) -> tuple[dict[str, str], dict[str, str]]:
    """Files and links, by path in an archive, that make VENV of the base's python.

    Nothing is run to make it: python itself finds its library by ``home``.
    """
    top = VENV.lstrip("/")
    home = python.executable.rpartition("/")[0] or "/"
    files = {
        f"{top}/pyvenv.cfg": (
            f"home = {home}\ninclude-system-site-packages = true\nversion = {python.version}\n"
        )
    }
    if python.extra_site:
        # a base whose python is a virtual environment itself: its packages stay importable
        files[f"{top}/lib/python{python.minor}/site-packages/_imagesmith_base.pth"] = (
            f"import site; site.addsitedir({python.extra_site!r})\n"
        )
    links = {
        f"{top}/bin/python": python.executable,
        f"{top}/bin/python3": "python",
        f"{top}/bin/python{python.minor}": "python",
        f"{top}/lib64": "lib",
    }
    return files, links
