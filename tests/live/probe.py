"""Runs inside an image, without anything but its python: says what a program sees there, as JSON."""

import json
import os
import stat
import sys


def tree(top):
    found = {}
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            info = os.lstat(path)
            relative = os.path.relpath(path, top)
            if stat.S_ISLNK(info.st_mode):
                found[relative] = "-> " + os.readlink(path)
            elif stat.S_ISDIR(info.st_mode):
                found[relative] = "dir"
            else:
                with open(path, "rb") as file:
                    found[relative] = [
                        oct(info.st_mode & 0o7777),
                        info.st_uid,
                        info.st_gid,
                        file.read().decode(),
                    ]
    return found


def versions(names):
    from importlib import metadata

    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


here = os.stat(".")
report = {
    "env": dict(os.environ),
    "cwd": os.getcwd(),
    "uid": os.getuid(),
    "workdir": [oct(here.st_mode & 0o7777), here.st_uid, here.st_gid],
    "python": list(sys.version_info[:2]),
    "executable": sys.executable,
    "tree": tree(os.getcwd()) if "--tree" in sys.argv else None,
    "packages": versions(sys.argv[sys.argv.index("--packages") + 1 :] if "--packages" in sys.argv else ()),
}
json.dump(report, sys.stdout)
