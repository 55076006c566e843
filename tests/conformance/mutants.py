"""Builders that are broken on purpose, each with exactly the checks that must see it."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from imagesmith import (
    BuildPlan,
    BuildRequest,
    Built,
    Command,
    Contribution,
    Environment,
    Feature,
    Readiness,
    Reporter,
    Runner,
    Support,
)
from imagesmith.authoring import command_environment, install_environment
from imagesmith.testing import FakeBuilder

Steps = list[list[object]]


@dataclass(frozen=True)
class Mutant:
    """What is wrong with it, the builder, and the ids of the checks that fail."""

    why: str
    builder: Callable[[Environment], Any]
    killed_by: frozenset[str]
    perhaps: frozenset[str] = frozenset()
    """the check with random strings may see it too"""


def mutant(
    why: str, *killed_by: str, perhaps: str | None = None
) -> Callable[[type[FakeBuilder]], type[FakeBuilder]]:
    def keep(builder: type[FakeBuilder]) -> type[FakeBuilder]:
        MUTANTS.append(Mutant(why, builder, frozenset(killed_by), frozenset([perhaps] if perhaps else [])))
        return builder

    return keep


MUTANTS: list[Mutant] = []
replace = dataclasses.replace


def step(steps: Steps, name: str) -> list[object]:
    return next((each for each in steps if each[0] == name), [])


# Name and table


@mutant("has no version", "table.name")
class M01(FakeBuilder):
    version = ""


@mutant("its table says yes and no", "table.values")
class M02(FakeBuilder):
    features: Mapping[Feature, Any] = {**FakeBuilder.features, Feature.CUDA: False}


@mutant("its table grows", "table.values")
class M03(FakeBuilder):
    made: ClassVar[list[object]] = []

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.made.append(self)
        lacking = Support.FULL if len(self.made) % 2 else Support.NOT_YET
        self.features = {**FakeBuilder.features, Feature.OCI_LAYOUT: lacking}


class Yes(dict[Feature, Support]):
    def get(self, key: Feature, default: object = None) -> Support:  # type: ignore[override]
        return Support.FULL


@mutant("its table answers yes to what it does not list", "table.refusals")
class M04(FakeBuilder):
    features = Yes({key: value for key, value in FakeBuilder.features.items() if key != Feature.CUDA})


@mutant("takes a user and does nothing with it", "table.visible")
class M05(FakeBuilder):
    def steps(self, request: BuildRequest) -> Steps:
        return super().steps(dataclasses.replace(request, spec=request.spec.replace(user="0")))


@mutant("takes any python for the one that is wanted", "table.python")
class AnyPython(FakeBuilder):
    def plan(self, request: BuildRequest) -> BuildPlan:
        spec = request.spec.replace(python_version=None)
        conda = request.conda if spec.conda_packages else None
        return replace(super().plan(replace(request, spec=spec, conda=conda)), request=request)


@mutant("refuses what nobody asked for", "table.reasons")
class M07(FakeBuilder):
    def refusals(self, request: BuildRequest) -> Mapping[str, str]:
        return {"platform": "today is Sunday"} if request.spec.name == "imagesmith" else {}


@mutant("refuses a field that does not exist", "table.reasons")
class M08(FakeBuilder):
    def refusals(self, request: BuildRequest) -> Mapping[str, str]:
        return {"python": "no"} if request.spec.python_version == "3.13" else {}


# Planning


def plans(deed: Callable[[], object]) -> type[FakeBuilder]:
    class Deed(FakeBuilder):
        def plan(self, request: BuildRequest) -> BuildPlan:
            deed()
            return super().plan(request)

    return Deed


def knock() -> None:
    with socket.socket() as door:
        door.connect_ex(("127.0.0.1", 9))


mutant("knocks at a socket while planning", "plan.pure")(plans(knock))
mutant("asks for an address while planning", "plan.pure")(plans(lambda: socket.getaddrinfo("127.0.0.1", 9)))
mutant("starts a process while planning", "plan.pure")(plans(lambda: subprocess.run(["true"], check=True)))
mutant("writes while planning", "plan.pure")(plans(lambda: tempfile.TemporaryDirectory().cleanup()))
mutant("looks at the clock while planning", "plan.pure")(plans(lambda: time.time() > 0))
mutant("looks at the environment while planning", "plan.pure")(plans(lambda: os.environ.get("HOME")))


def adds(more: Callable[[FakeBuilder, BuildRequest], object]) -> type[FakeBuilder]:
    class More(FakeBuilder):
        def steps(self, request: BuildRequest) -> Steps:
            return [*super().steps(request), ["more", more(self, request)]]

    return More


mutant("plans with this machine's home", "plan.deterministic")(
    adds(lambda builder, request: builder.environment.env["HOME"])
)
mutant("plans with the working directory", "plan.deterministic")(
    adds(lambda builder, request: str(Path.cwd()))
)


def replans(change: Callable[[BuildPlan], BuildPlan]) -> type[FakeBuilder]:
    class Changed(FakeBuilder):
        def plan(self, request: BuildRequest) -> BuildPlan:
            return change(super().plan(request))

    return Changed


mutant("writes outside of its build folder", "plan.value", "build.interrupt", "build.leaves-nothing")(
    replans(lambda plan: replace(plan, files={**plan.files, "../recipe.json": ""}))
)
mutant("plans bytes", "plan.value")(
    replans(lambda plan: replace(plan, files={**plan.files, "x": "x"}, steps=(b"x",)))  # type: ignore[arg-type]
)
mutant("plans under another name", "plan.value")(replans(lambda plan: replace(plan, builder="fakir")))
mutant("changes its request", "plan.value")(
    replans(lambda plan: replace(plan, request=replace(plan.request, options={"IMAGESMITH_ID": ""})))
)
mutant("names no steps", "plan.value")(replans(lambda plan: replace(plan, steps=())))
mutant("plans what is no data", "plan.value")(
    replans(lambda plan: replace(plan, contributed=Contribution(env=Lambda())))
)
mutant("gives a shell a line", "plan.argv")(
    replans(lambda plan: replace(plan, commands=(*plan.commands, Command(("/bin/sh", "-c", "true")))))
)
mutant("takes a line for a program", "plan.argv")(
    replans(lambda plan: replace(plan, commands=(*plan.commands, Command(("fake-tool build",)))))
)


class Lambda(dict[str, str]):
    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle it")


@mutant("needs the base's digest to show a plan", "plan.listed")
class M09(FakeBuilder):
    def steps(self, request: BuildRequest) -> Steps:
        assert request.base.digest
        return super().steps(request)


@mutant("takes apt packages as they come", "plan.order-blind")
class M10(FakeBuilder):
    def steps(self, request: BuildRequest) -> Steps:
        found = super().steps(request)
        step(found, "apt")[1:] = request.spec.apt_packages
        return found


@mutant("sorts commands", "plan.order-kept")
class M11(FakeBuilder):
    def steps(self, request: BuildRequest) -> Steps:
        return super().steps(
            replace(request, spec=request.spec.replace(commands=sorted(request.spec.commands)))
        )


@mutant("sorts the installer's arguments", "plan.order-kept")
class M12(FakeBuilder):
    def steps(self, request: BuildRequest) -> Steps:
        changed = request.spec.replace(pip_extra_args=sorted(request.spec.pip_extra_args))
        return super().steps(replace(request, spec=changed))


mutant("builds env into a layer", "plan.env-apart")(adds(lambda builder, request: dict(request.spec.env)))
mutant("builds the entrypoint into a layer", "plan.env-apart")(
    adds(lambda builder, request: list(request.spec.entrypoint or ()))
)


@mutant("runs commands without env", "plan.env-of-commands", "quote.hostile", perhaps="quote.any")
class M13(FakeBuilder):
    def steps(self, request: BuildRequest) -> Steps:
        return super().steps(replace(request, spec=request.spec.replace(env={})))


@mutant("builds on whatever the name means", "plan.base-pinned")
class M14(FakeBuilder):
    def steps(self, request: BuildRequest) -> Steps:
        return super().steps(replace(request, base=replace(request.base, digest=None)))


mutant("contributes a folder of nowhere to PATH", "plan.contribution")(
    replans(lambda plan: replace(plan, contributed=Contribution(path=("bin",))))
)
mutant("contributes two folders as one", "plan.contribution")(
    replans(lambda plan: replace(plan, contributed=Contribution(path=("/a/bin:/b/bin",))))
)
mutant("contributes PATH as a variable", "plan.contribution")(
    replans(lambda plan: replace(plan, contributed=Contribution(env={"PATH": "/bin"})))
)
mutant("shows the marker to commands", "plan.no-marker")(
    adds(lambda builder, request: {"IMAGESMITH_ID": "x"})
)
mutant("builds the id into a layer", "plan.no-marker", "plan.env-apart")(
    adds(lambda builder, request: request.spec.id)
)
mutant("writes credentials into its plan", "plan.no-secrets")(
    adds(lambda builder, request: [each.reveal().decode() for each in request.secrets.values()])
)


# Quoting


def spells(change: Callable[[str], str]) -> type[FakeBuilder]:
    class Changed(FakeBuilder):
        def steps(self, request: BuildRequest) -> Steps:
            found = super().steps(request)
            for each in found:
                if each[0] == "command":
                    each[1] = change(str(each[1]))
            return found

    return Changed


mutant("makes one blank of many", "quote.hostile", perhaps="quote.any")(
    spells(lambda text: " ".join(text.split()))
)
mutant("lets quotes go", "quote.hostile", perhaps="quote.any")(
    spells(lambda text: text.replace("'", "").replace('"', ""))
)
mutant("speaks ASCII", "quote.hostile", perhaps="quote.any")(
    spells(lambda text: text.encode("ascii", "replace").decode())
)
mutant("reads only the first line of a command", "quote.hostile", perhaps="quote.any")(
    spells(lambda text: text.partition("\n")[0])
)
mutant("cuts long commands", "quote.any")(spells(lambda text: text[:40]))
mutant("stumbles over a brace", "quote.hostile")(spells(lambda text: str({}[1]) if text == "{a,b}" else text))


@mutant("strips values of build_env at install", "quote.hostile", perhaps="quote.any")
class M15(FakeBuilder):
    def steps(self, request: BuildRequest) -> Steps:
        found = super().steps(request)
        for each in found:
            if each[0] == "install":
                each[5] = {
                    key: value.strip() for key, value in install_environment(request, Contribution()).items()
                }
        return found


@mutant("writes env unquoted", "quote.hostile", perhaps="quote.any")
class M16(FakeBuilder):
    def steps(self, request: BuildRequest) -> Steps:
        found = super().steps(request)
        for each in found:
            if each[0] == "environment":
                env = command_environment(request, Contribution())
                each[1] = [word for key, value in env.items() for word in f"{key}={value}".split()]
        return found


# Running


@mutant("ready() raises", "ready.never-raises", "ready.hint")
class M17(FakeBuilder):
    def ready(self) -> Readiness:
        self.environment.runner.run(["x"], env={}, cwd=Path("/"), on_line=lambda line, stream: None)
        return Readiness(True)


@mutant("ready() says no, and no more", "ready.hint")
class M18(FakeBuilder):
    def ready(self) -> Readiness:
        return Readiness(False, problem="no")


class Wrapped(FakeBuilder):
    """Its runner, and what comes of a build, in other hands."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(replace(environment, runner=Hands(environment.runner, self)))

    def argv(self, argv: list[str], cwd: Path) -> list[str]:
        return argv

    def more(self, named: dict[str, Any]) -> dict[str, Any]:
        return named


@dataclass
class Hands:
    inner: Runner
    builder: Wrapped

    def run(self, argv: Any, **named: Any) -> Any:
        changed = self.builder.argv(list(argv), named["cwd"])
        return self.inner.run(changed, **self.builder.more(named))


@mutant("does not know its tool may be missing", "build.tool-missing")
class M19(FakeBuilder):
    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        try:
            return super().build(plan, report)
        except Exception as error:
            if type(error).__name__ == "BuilderNotReady":
                raise FileNotFoundError("fake-tool") from error
            raise


@mutant("gives no hint when its tool is missing", "build.tool-missing")
class M20(FakeBuilder):
    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        try:
            return super().build(plan, report)
        except Exception as error:
            error.hint = None  # type: ignore[attr-defined]
            raise


@mutant("takes every end of its tool for a good one", "build.tool-fails")
class M21(Wrapped):
    def more(self, named: dict[str, Any]) -> dict[str, Any]:
        return named

    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        from imagesmith import BuildFailed

        try:
            return super().build(plan, report)
        except BuildFailed:
            return Built(plan.request.destination, "sha256:" + "0" * 64)


@mutant("blames another builder", "build.tool-fails")
class M22(FakeBuilder):
    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        from imagesmith import BuildFailed

        try:
            return super().build(plan, report)
        except BuildFailed as error:
            error.builder = "another"
            raise


@mutant("says it built what it did not", "build.no-engine")
class M23(FakeBuilder):
    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        return Built(plan.request.destination, "sha256:" + "0" * 64)


@mutant("swallows an interrupt", "build.interrupt")
class M24(FakeBuilder):
    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        try:
            return super().build(plan, report)
        except KeyboardInterrupt:
            return Built(plan.request.destination, "sha256:" + "0" * 64)


@mutant("leaves its folder behind", "build.leaves-nothing", "build.interrupt")
class M25(Wrapped):
    def argv(self, argv: list[str], cwd: Path) -> list[str]:
        if cwd != Path("/"):
            (cwd.parent / "left").mkdir()
        return argv


@mutant("changes the staged files", "build.leaves-nothing")
class M26(Wrapped):
    def argv(self, argv: list[str], cwd: Path) -> list[str]:
        for file in cwd.parent.glob("staged/source/app.py"):
            file.write_text("changed")
        return argv


@mutant("takes staged files away", "build.leaves-nothing")
class M27(Wrapped):
    def argv(self, argv: list[str], cwd: Path) -> list[str]:
        for file in cwd.parent.glob("staged/source/app.py"):
            file.unlink()
        return argv


@mutant("keeps notes in the user's home", "build.writes")
class M28(Wrapped):
    def argv(self, argv: list[str], cwd: Path) -> list[str]:
        (Path(self.environment.env.get("HOME", "/nowhere")) / "notes").write_text("x")
        return argv


@mutant("hands on this process's environment", "build.processes")
class M29(Wrapped):
    def more(self, named: dict[str, Any]) -> dict[str, Any]:
        return {**named, "env": dict(os.environ)}


@mutant("works wherever it is", "build.processes")
class M30(Wrapped):
    def more(self, named: dict[str, Any]) -> dict[str, Any]:
        return {**named, "cwd": Path()}


@mutant("starts processes of its own", "build.processes")
class M31(Wrapped):
    def argv(self, argv: list[str], cwd: Path) -> list[str]:
        subprocess.run(["true"], check=True)
        return argv


@mutant("puts secrets into the arguments", "build.secrets")
class M32(FakeBuilder):
    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        secrets = [each.reveal().decode() for each in plan.request.secrets.values()]
        (command,) = plan.commands
        return super().build(replace(plan, commands=(Command((*command.argv, *secrets)),)), report)


@mutant("tells its runner of no secret", "build.secrets")
class M33(Wrapped):
    def more(self, named: dict[str, Any]) -> dict[str, Any]:
        return {**named, "redact": ()}
