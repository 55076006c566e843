"""The packages of one image: resolved, or known from before; as files that lie here; by layer."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith import BuildFailed, BuildRequest, Environment, install_environment, redactions
from imagesmith_oci.lock import Lock, LockCache, Package
from imagesmith_oci.machine import Machine, logins, read_machine
from imagesmith_oci.resolve import Question, indexes, question, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagesmith import Contribution
    from imagesmith.tarball import TarWriter
    from imagesmith_oci.bytecode import Compiler
    from imagesmith_oci.fetch import Fetcher
    from imagesmith_oci.options import Options
    from imagesmith_oci.platforms import Libc
    from imagesmith_oci.prefix import Prefix

__all__ = ["READ", "Packages", "identity"]

NAME = "oci"
READ = ("pip.conf", "netrc")
"""what of ``pip_secret_mounts`` is read, by the end of the path, with a dot before it or without"""
_FETCHES = 8


def identity(package: Package) -> list[str]:
    """All that decides a package's files in an image, the environment aside."""
    return [package.file, package.sha256, _direct_url(package) or ""]


def _direct_url(package: Package) -> str | None:
    """The text of direct_url.json, for what was asked for by its address."""
    if not package.direct or not package.url:
        return None
    if package.commit:
        told: dict[str, object] = {
            "url": package.url,
            "vcs_info": {"vcs": "git", "commit_id": package.commit},
        }
    else:
        told = {"url": package.url, "archive_info": {}}
    if package.subdirectory:
        told["subdirectory"] = package.subdirectory
    return json.dumps(told, sort_keys=True)


class Packages:
    """What one build does about packages. ``scratch`` is its own folder."""

    def __init__(
        self,
        environment: Environment,
        request: BuildRequest,
        options: Options,
        contributed: Contribution,
        scratch: Path,
        say: Callable[[str], None],
    ) -> None:
        self.environment = environment
        self.request = request
        self.options = options
        self.contributed = contributed
        self.scratch = scratch
        self.say = say
        self._pool: ThreadPoolExecutor | None = None
        self._files: dict[Package, Future[Path]] = {}
        self._machine: Machine | None = None
        self._fetcher: Fetcher | None = None
        self._compilers: dict[str, Compiler] = {}
        """by the minor version of the image's python"""
        self.known = True
        """whether uv was asked nothing"""
        self.found: tuple[Package, ...] = ()
        """what ``lock`` answered last"""

    # what is wanted

    def lock(self, python: str, libc: Libc, *, anew: bool = False) -> Lock:
        """All packages with their hashes; each is a wheel. Asks uv only where the answer is not known.

        Raises:
            BuildFailed: there is no answer, or a package that needs more than this machine can do.
            StoreError: an index cannot be reached.
        """
        asked = question(self.request, self.options, self.machine, python, libc)
        if self.request.conda is not None and self.request.conda.folder is not None:
            from imagesmith_oci.installed import found_in  # noqa: PLC0415 - few specs need it

            asked = replace(asked, installed=found_in(self.request.conda.folder))
        cache = LockCache(self.environment.cache_dir / "locks")
        known = None if anew or asked.arguments.upgrade else cache.get(asked.key)
        if known is None or not self._all_at_hand(known):
            self.known = False
            folder = Path(tempfile.mkdtemp(prefix="resolve-", dir=self.scratch))
            runner, env = self.environment.runner, self._uv_env()
            known = resolve(asked, runner, env, folder, self.say, self.redact, refresh=anew)
            known = self._settled(asked, known, folder)
            cache.put(asked.key, known)
        for package in known.packages:
            self.say(package.shown)
        self.found = known.packages
        return known

    def compiled_by(self, prefix: Prefix) -> list[object]:
        """What decides the byte code of the packages; nothing where none is wanted.

        Raises:
            BuilderNotReady: it is, and this machine has no such python.
        """
        if not self.options.byte_code:
            return []
        from imagesmith_oci.bytecode import Compiler  # noqa: PLC0415 - few builds want it

        runner, env = self.environment.runner, self.environment.env
        compiler = Compiler(prefix.minor, runner, env, self.scratch)
        self._compilers[prefix.minor] = compiler
        return compiler.basis

    # files

    def want(self, *packages: Package) -> None:
        """Begin to fetch them, where that is still to be done."""
        for package in packages:
            if package not in self._files:
                self._pool = self._pool or ThreadPoolExecutor(_FETCHES, thread_name_prefix="fetch")
                self._files[package] = self._pool.submit(self._file, package)

    def fill(self, prefix: Prefix, group: tuple[Package, ...]) -> Callable[[TarWriter], None]:
        """What writes the files of these packages into a layer; they must have been wanted."""

        def write(tar: TarWriter) -> None:
            from imagesmith_oci import wheels  # noqa: PLC0415 - a known layer needs none

            try:
                compiler = self._compilers.get(prefix.minor)
                laid = [
                    wheels.lay_out(self._files[each].result(), prefix, _direct_url(each), compiler)
                    for each in group
                ]
                wheels.write(tar, laid)
            except wheels.BadWheelError as error:
                for each in group:
                    if not each.path:  # it was whole when it came: the next build fetches it anew
                        self._kept(each).unlink(missing_ok=True)
                raise BuildFailed(
                    f"packages: {error}",
                    builder=NAME,
                    step="packages",
                    hint="build it anew, or choose another version",
                ) from error

        return write

    def close(self) -> None:
        """Fetch no more."""
        if self._fetcher is not None:
            self._fetcher.stop()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    # inside

    @property
    def machine(self) -> Machine:
        """Where this machine gets packages from."""
        if self._machine is None:
            texts = dict.fromkeys(READ, "")
            for number, (_, target) in enumerate(self.request.spec.pip_secret_mounts):
                last = target.rpartition("/")[2].lstrip(".")
                secret = self.request.secrets.get(f"pip_secret_mounts[{number}]")
                if last in texts and secret is not None:
                    texts[last] += secret.reveal().decode(errors="replace") + "\n"
            self._machine = read_machine(self.environment.env, texts["pip.conf"], texts["netrc"])
        return self._machine

    @property
    def redact(self) -> tuple[str, ...]:
        """What a process must not be seen to print; the logins of this machine belong to it."""
        machine = {password for _, password in self._logins().values() if password}
        return (*redactions(self.request), *sorted(machine))

    def _logins(self) -> dict[str, tuple[str, str]]:
        spec, env = self.request.spec, self.environment.env
        main = [spec.pip_index or "", *spec.pip_extra_index_url, *spec.pip_extra_args]
        texts = [secret.reveal().decode(errors="replace") for secret in self.request.secrets.values()]
        own = [value for key, value in env.items() if key.startswith(("UV_", "PIP_"))]
        known = [self.machine.index or "", *self.machine.extra]
        return logins([*main, *texts, *known, *own], self.machine.netrc)

    def _uv_env(self) -> dict[str, str]:
        """For uv: its own cache, no other python than what is here, no progress bars."""
        env = dict(self.environment.env)
        env.setdefault("UV_CACHE_DIR", str(self.environment.cache_dir / "uv"))
        env |= {"UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"}
        if self.machine.certificates:
            env.setdefault("SSL_CERT_FILE", self.machine.certificates)
        if self.machine.trusted:
            hosts = " ".join((*self.machine.trusted, *env.get("UV_INSECURE_HOST", "").split()))
            env["UV_INSECURE_HOST"] = hosts
        if self.machine.netrc:
            file = self.scratch / "netrc"
            file.touch(mode=0o600)
            file.write_text(self.machine.netrc, encoding="utf-8")
            env["NETRC"] = str(file)
        return env

    def _fetch(self) -> Fetcher:
        if self._fetcher is None:
            from imagesmith_oci.arguments import arguments_of  # noqa: PLC0415
            from imagesmith_oci.fetch import Fetcher  # noqa: PLC0415 - a known list needs none

            self._fetcher = Fetcher(
                self._wheel_folder,
                self.environment.env,
                self._logins(),
                certificates=self.machine.certificates,
                trusted=(*self.machine.trusted, *arguments_of(self.request).trusted),
            )
        return self._fetcher

    @property
    def _wheel_folder(self) -> Path:
        return self.environment.cache_dir / "wheels"

    def _kept(self, package: Package) -> Path:
        return self._wheel_folder / package.sha256[:2] / package.sha256 / package.file

    def _all_at_hand(self, lock: Lock) -> bool:
        """Whether each can be had: what was built here may have been cleaned away."""
        return all(each.path or not each.built or self._kept(each).exists() for each in lock.packages)

    def _file(self, package: Package) -> Path:
        staged = self.request.staged.folder
        if package.built:
            return self._kept(package)
        if package.path and staged is not None:
            return staged / "requirements" / package.path
        return self._fetch().fetch(package)[1]

    def _settled(self, asked: Question, lock: Lock, folder: Path) -> Lock:
        """Every package a wheel with a hash and a size: what is not yet is fetched or built."""
        unsure = [each for each in lock.packages if not each.is_wheel or not each.sha256 or not each.size]
        for package in unsure:
            lock = lock.with_package(self._settle(asked, package, folder))
        return lock

    def _settle(self, asked: Question, package: Package, folder: Path) -> Package:
        if package.is_wheel:
            if package.path:
                return replace(package, size=(folder / "requirements" / package.path).stat().st_size)
            done, file = self._fetch().fetch(package)
            return replace(done, size=file.stat().st_size)
        if package.commit:
            source = folder / f"git-{package.name}"
        elif package.path:
            source = folder / "requirements" / package.path
        else:
            source = self._fetch().fetch(package)[1]
        return self._build(asked, package, source, folder)

    def _build(self, asked: Question, package: Package, source: Path, folder: Path) -> Package:
        from imagesmith_oci.sdists import Workbench  # noqa: PLC0415 - seldom needed

        seen = install_environment(self.request, self.contributed)
        bench = Workbench(
            self.environment.runner,
            self._uv_env(),
            {key: value for key, value in seen.items() if key in self.request.spec.build_env},
            folder,
            self.say,
            self.redact,
            indexes=indexes(asked),
            logins=self._logins(),
        )
        wheel = bench.wheel(package, source)
        with wheel.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        done = replace(
            package,
            file=wheel.name,
            path="",
            sha256=digest,
            size=wheel.stat().st_size,
            version=package.version or wheel.name.split("-")[1],
            built=True,
        )
        place = self._kept(done)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(wheel, place)
        return done
