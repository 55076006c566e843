"""Shell that checks a copied conda environment in the image, whichever builder copied it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagesmith.builder import CondaTree

__all__ = ["conda_check"]


def conda_check(tree: CondaTree) -> str:
    """For ``/bin/sh -eu``: nothing else stands in the environment's folder, and its python runs there."""
    prefix = tree.PREFIX
    return f"""set -- {prefix}/conda-meta/*.json
if [ "$#" -ne {len(tree.packages)} ]; then
  echo "imagesmith: the base image has an environment of its own at {prefix}: choose a base without one" >&2
  exit 1
fi
if ! have=$({prefix}/bin/python -B -c "import platform; print(platform.python_version())"); then
  echo "imagesmith: the python at {prefix} does not run in the base image: conda packages need glibc, \
which a base such as alpine has not, and not too old a one" >&2
  exit 1
fi
if [ "$have" != {tree.python or '"$have"'} ]; then
  echo "imagesmith: the python at {prefix} is $have, not {tree.python}" >&2
  exit 1
fi
"""
