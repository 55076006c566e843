"""Runs in an environment that has flytekit: its default builder's own build context for the bench's spec.

    python flytekit_context.py FOLDER JSON       (JSON: base, apt, packages, env, source)

What is replaced, because the public helper images cannot be had everywhere: the ``#syntax`` line is dropped;
the uv image is a named context with the uv binary; the micromamba image is the base (only a certificate is
taken from it); the environment that micromamba would create is a venv of the base's python at the same
place (so a real one costs more); flytekit itself is not installed; the empty last RUN says ``true``.
"""

import json
import re
import sys
from pathlib import Path

from flytekit.constants import CopyFileDetection
from flytekit.image_spec.default_builder import create_docker_context
from flytekit.image_spec.image_spec import ImageSpec

folder, told = Path(sys.argv[1]), json.loads(sys.argv[2])
spec = ImageSpec(
    name="bench",
    base_image=told["base"],
    apt_packages=told["apt"],
    packages=told["packages"],
    env=told["env"],
    source_root=told["source"],
    source_copy_mode=CopyFileDetection.ALL,
    python_version="3.11",
)
create_docker_context(spec, folder)
requirements = folder / "requirements_uv.txt"
lines = [line for line in requirements.read_text().splitlines() if not line.startswith("flytekit")]
requirements.write_text("\n".join(lines) + "\n")
file = folder / "Dockerfile"
text = file.read_text()
text = re.sub(r"^#syntax=.*\n", "", text, flags=re.MULTILINE)
text = re.sub(r"^FROM \S+ as uv\n", "", text, flags=re.MULTILINE)
text = re.sub(r"^FROM \S+ as micromamba$", f"FROM {told['base']} as micromamba", text, flags=re.MULTILINE)
venv = "RUN python3 -m venv /opt/micromamba/envs/runtime && chown -R flytekit /opt/micromamba\n"
text = re.sub(r"RUN (?:[^\n]*\\\n)*?[^\n]*micromamba config set(?:[^\n]*\\\n)*[^\n]*\n", venv, text)
text = re.sub(r"(source=/uv,target=/usr/bin/uv) *\n\nWORKDIR", r"\1 true\n\nWORKDIR", text)
file.write_text(text)
