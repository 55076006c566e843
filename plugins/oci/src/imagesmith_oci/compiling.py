"""Compiles the modules of wheels: a process of its own, run by the python whose byte code is wanted.

``python -s -S -B compiling.py TASK.json``, with no more than the standard library of any python from 3.9 on.
What a process has loaded decides the bytes that ``marshal`` writes, so this one loads always the same.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    del sys.path[0]  # the modules beside this one are not the standard library's

import json
import marshal
import struct
import zipfile
from importlib.util import MAGIC_NUMBER
from typing import Any

MOST = 1 << 26
"""bytes of source; what is larger is no module that a person wrote"""


def main() -> None:
    """Write an archive of the byte code of one wheel; what is no python is left out, as by pip."""
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123 - loads as little as can be
        task: dict[str, Any] = json.load(file)
    with zipfile.ZipFile(task["wheel"]) as wheel, zipfile.ZipFile(task["into"], "w") as made:
        for name, target in task["modules"]:
            if wheel.getinfo(name).file_size > MOST:
                continue
            source = wheel.read(name)
            try:
                code = compile(source, target, "exec", dont_inherit=True, optimize=0)
            except Exception:  # noqa: BLE001, S112 - a stranger's file, and many are templates
                continue
            head = MAGIC_NUMBER + struct.pack("<LLL", 0, task["time"], len(source))
            made.writestr(name, head + marshal.dumps(code))


if __name__ == "__main__":
    main()
