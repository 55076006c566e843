"""Sabotage of a real builder, or of the core, each with exactly the live checks that must see it.

A saboteur is the envd builder in other hands (``request``, ``staged``, ``plan``, ``build`` below), or a part
of the core that is replaced for the time of the test.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagesmith import (
    BaseImage,
    Builder,
    BuildFailed,
    BuildPlan,
    BuildRequest,
    Built,
    Contribution,
    Environment,
    ImagesmithError,
    Readiness,
    Reporter,
    StepLog,
    bases,
    conda_environments,
    engine,
    existence,
    finish,
    pipeline,
    places,
    scripts,
    settings,
)
from imagesmith.conformance.samples import SECRET
from imagesmith.plugins import Plugins
from imagesmith.stores.local import connect

replace = dataclasses.replace


class Saboteur:
    """A builder in other hands."""

    def __init__(self, environment: Environment, inner: Builder) -> None:
        self.environment = environment
        self.inner = inner

    name = "envd"

    @property
    def version(self) -> str:
        return self.inner.version

    @property
    def features(self) -> Any:
        return self.inner.features

    def refusals(self, request: BuildRequest) -> Any:
        return self.inner.refusals(request)

    def ready(self) -> Readiness:
        return self.inner.ready()

    def request(self, request: BuildRequest) -> BuildRequest:
        return request

    def plan(self, request: BuildRequest) -> BuildPlan:
        return self.inner.plan(self.request(request))

    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        return self.inner.build(plan, report)

    def local(self) -> Any:
        return contextlib.closing(engine.local_store(self.environment.env))


Patch = tuple[Any, str, Callable[[Any], Any]]


@dataclass(frozen=True)
class Sabotage:
    why: str
    group: str
    killed_by: frozenset[str]
    builder: Callable[[Environment, Builder], Any] = Saboteur
    patches: tuple[Patch, ...] = field(default=())
    """(owner, name, the real thing -> what stands for it)"""


@dataclass(frozen=True)
class Team:
    """Sabotages of one group at once; no check is to be failed by two of them. It saves many builds."""

    sabotages: tuple[Sabotage, ...]

    @property
    def group(self) -> str:
        return self.sabotages[0].group

    @property
    def why(self) -> str:
        return f"{self.group}: " + ", ".join(each.why for each in self.sabotages)

    def builder(self, environment: Environment) -> Any:
        made: Any = Plugins().load("envd").factory(environment)
        for each in reversed(self.sabotages):
            made = each.builder(environment, made)
        return made


def teams() -> list[Team]:
    """Each sabotage in the first team of its group that is about other checks."""
    made: list[list[Sabotage]] = []
    for each in SABOTAGES:
        for team in made:
            taken = {check for other in team for check in other.killed_by}
            if (
                team[0].group == each.group
                and not taken & {*each.killed_by, ALL}
                and ALL not in each.killed_by
            ):
                team.append(each)
                break
        else:
            made.append([each])
    return [Team(tuple(team)) for team in made]


SABOTAGES: list[Sabotage] = []
IMAGES = ("rich", "changed", "apt", "private", "conda")
"""groups that are called as the image they look at; no other image is meddled with"""
ALL = "all"
"""all of its group: the images that they look at cannot even be built"""


def spec_of(request: BuildRequest, **changes: Any) -> BuildRequest:
    return replace(request, spec=request.spec.replace(**changes))


def told(
    why: str, group: str, *killed_by: str, request: Any = None, staged: Any = None, **methods: Any
) -> None:
    """One more saboteur, made of functions."""

    class Made(Saboteur):
        def request(self, asked: BuildRequest) -> BuildRequest:
            other = group in IMAGES and not asked.spec.name.endswith(f"/{group}")
            return asked if other or not request else request(asked)

        def build(self, plan: BuildPlan, report: Reporter) -> Built:
            folder = plan.request.staged.folder
            other = group in IMAGES and not plan.request.spec.name.endswith(f"/{group}")
            if staged and folder is not None and not other:
                staged(folder)
            return super().build(plan, report)

    for name, method in methods.items():
        setattr(Made, name, method)
    SABOTAGES.append(Sabotage(why, group, frozenset(killed_by), Made))


def patched(why: str, group: str, *killed_by: str, patches: list[Patch]) -> None:
    SABOTAGES.append(Sabotage(why, group, frozenset(killed_by), patches=tuple(patches)))


def adds(*commands: str) -> Callable[[BuildRequest], BuildRequest]:
    """Further commands behind the spec's."""
    return lambda request: spec_of(request, commands=[*request.spec.commands, *commands])


def before_each(line: str) -> Callable[[BuildRequest], BuildRequest]:
    return lambda request: spec_of(request, commands=[f"{line}\n{each}" for each in request.spec.commands])


# The rich image: what commands and install steps see

told(
    "skips the last command", "rich", "commands.order",
    request=lambda asked: spec_of(asked, commands=asked.spec.commands[:-1]),
)  # fmt: skip
told(
    "strips what commands see", "rich", "env.commands",
    request=lambda asked: spec_of(asked, env={k: value.strip(" ") for k, value in asked.spec.env.items()}),
)  # fmt: skip
told(
    "forgets build_env", "rich", "build-env.install", "build-env.commands",
    request=lambda asked: spec_of(asked, build_env={}),
)  # fmt: skip
told(
    "shows env to install steps", "rich", "env.not-at-install",
    request=lambda asked: spec_of(
        asked,
        build_env={**{k: v for k, v in asked.spec.env.items() if k != "PATH"}, **asked.spec.build_env},
    ),
)  # fmt: skip
told("shows the marker to commands", "rich", "marker.commands", request=before_each("export IMAGESMITH_ID=x"))
told(
    "leaves build_env in the image", "rich", "build-env.gone",
    build=lambda self, plan, report: replace(
        self.inner.build(plan, report),
        contributed=replace(plan.contributed, env={"CONFORMANCE_BUILD": "b"}),
    ),
)  # fmt: skip
told(
    "says what it should not", "rich", "history.plain",
    build=lambda self, plan, report: (
        report(StepLog("x", "a third line")), self.inner.build(plan, report))[1],
)  # fmt: skip
told(
    "changes its version as it goes", "rich", "labels.own", "publish.result",
    version=property(lambda self: uuid.uuid4().hex),
)  # fmt: skip

# Commands

told("breaks a line", "rich", "commands.shell", request=adds("tr 'a' 'x' < loop > loop2; mv loop2 loop"))
told("runs commands elsewhere", "rich", "commands.place", request=adds("echo '/ 1000' > place"))
told("runs commands as the user", "changed", "commands.root", request=adds("echo 1234 > uid"))

# Packages

told("loses a package", "rich", "packages.installed", "packages.any-user", "marker.own-code",
     request=adds("python -m pip uninstall -y -q conformance-local"))  # fmt: skip
told("loses a requirement", "rich", "packages.requirements",
     request=adds("python -m pip uninstall -y -q conformance-deep"))  # fmt: skip
told(
    "installs for root alone", "rich", "packages.any-user",
    request=adds("chmod 600 $(python -c 'import conformance_local as m; print(m.__file__)')",
                 "rm -rf $(python -c 'import conformance_local as m; print(m.__cached__)')"),
)  # fmt: skip
told(
    "takes another python", "rich", "python.version",
    request=lambda asked: replace(
        asked, base=replace(asked.base, digest=None, reference=asked.base.reference.replace("3.11", "3.13"))
    ),
)  # fmt: skip


def swapped(first: str, second: str) -> Callable[[Saboteur, BuildRequest], BuildPlan]:
    """Two steps in the other order."""

    def plan(self: Saboteur, request: BuildRequest) -> BuildPlan:
        made = self.inner.plan(request)
        lines = made.files["build.envd"].splitlines()
        where = [
            number for number, line in enumerate(lines) if f"# {first}\\n" in line or f"# {second}\\n" in line
        ]
        if len(where) == 2:
            lines[where[0]], lines[where[1]] = lines[where[1]], lines[where[0]]
        return replace(made, files={**made.files, "build.envd": "\n".join(lines) + "\n"})

    return plan


told("installs after the files came", "rich", "packages.before-files", plan=swapped("packages", "files"))
told("installs before apt", "apt", "apt.before-packages", plan=swapped("apt", "packages"))
told("leaves apt's lists", "apt", "apt.installed", request=adds("touch /var/lib/apt/lists/left"))

# Files


def ignored(folder: Path) -> None:
    (folder / "source" / "ignored.log").write_text("no")


def plain_modes(folder: Path) -> None:
    for name in ("bin/tool", "single.txt"):
        with contextlib.suppress(FileNotFoundError):
            (folder / "source" / name).chmod(0o644)


def followed(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        (folder / "source" / "link").unlink()
        (folder / "source" / "link").write_text("x")


def gone(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "source" / name).unlink(missing_ok=True)


told("copies what is ignored", "rich", "source.ignored", staged=ignored)
told("loses the execute bit", "rich", "source.modes", "copy.lands", staged=plain_modes)
told("gives files to somebody", "rich", "source.modes", request=adds("chown 12 app.py"))
told("follows links", "rich", "source.links", staged=followed)
told("loses odd names", "rich", "source.files", staged=gone("new\nline"))
told("forgets copied files", "rich", "copy.lands", staged=gone("copied/one.txt"))
told("closes the work directory", "rich", "workdir.writable", request=adds("chmod 0755 ."))
told("ignores the work directory's owner", "changed", "workdir.owner",
     request=lambda asked: spec_of(asked, user=None))  # fmt: skip
told("ignores the work directory", "changed", "workdir.set", "workdir.owner", "commands.root",
     request=lambda asked: spec_of(asked, workdir=None))  # fmt: skip

# The configuration: the core's merit, and checked all the same


def configures(change: Callable[[dict[str, Any]], Any]) -> list[Patch]:
    """The finished configuration is another one."""

    def stand_in(real: Any) -> Any:
        def wanted(*arguments: Any, **named: Any) -> Any:
            config = real(*arguments, **named)
            change(config)
            return config

        return wanted

    return [(finish, "wanted", stand_in)]


def reenv(change: Callable[[str, str], str | None]) -> list[Patch]:
    def entries(config: dict[str, Any]) -> None:
        pairs = [entry.split("=", 1) for entry in config["Env"]]
        new = [(key, change(key, value)) for key, value in pairs]
        config["Env"] = [f"{key}={value}" for key, value in new if value is not None]

    return configures(entries)


patched("strips env", "rich", "env.configured", "env.visible",
        patches=reenv(lambda key, value: value.strip(" ")))  # fmt: skip
patched("loses an entry of PATH", "rich", "env.path", "env.commands",
        patches=reenv(lambda key, value: value.replace("/workspace/bin:", "")))  # fmt: skip
patched("has no PYTHONPATH to the work directory", "rich", "env.pythonpath", "env.commands",
        patches=reenv(lambda key, value: f"/opt:{value}" if key == "PYTHONPATH" else value))  # fmt: skip
patched("has another marker", "rich", "marker.configured", "marker.own-code",
        patches=reenv(lambda key, value: "x" if key == "IMAGESMITH_ID" else value))  # fmt: skip
patched("splits the entrypoint", "rich", "entrypoint.list", "marker.own-code",
        patches=configures(lambda config: config.update(Entrypoint=" ".join(config["Entrypoint"]).split())
                           if config.get("Entrypoint") else None))  # fmt: skip
patched("keeps the base's command", "changed", "entrypoint.empty",
        patches=configures(lambda config: config.update(Cmd=["python3"])))  # fmt: skip
patched("clears the base's command", "plain", "entrypoint.kept",
        patches=configures(lambda config: config.pop("Cmd", None)))  # fmt: skip
patched("starts programs a slash away", "rich", "workdir.default",
        patches=configures(lambda config: config.update(WorkingDir="/workspace/")))  # fmt: skip
patched("runs as somebody else", "changed", "user.set",
        patches=configures(lambda config: config.update(User="4321")))  # fmt: skip
patched("forgets a label of its own", "rich", "labels.own",
        patches=configures(lambda config: config["Labels"].pop("io.imagesmith.spec")))  # fmt: skip
patched("adds a label of the builder's", "rich", "labels.user",
        patches=configures(lambda config: config["Labels"].update({"ai.builder": "me"})))  # fmt: skip
patched("is for another platform", "plain", ALL,
        patches=[(finish, "document", lambda real: lambda *arguments, **named: {
            **real(*arguments, **named), "architecture": "s390x"})])  # fmt: skip

# A base that is a spec


def of_upper(change: Callable[[dict[str, Any]], Any]) -> list[Patch]:
    return configures(lambda config: change(config) if "/upper" in config["Labels"][SPEC] else None)


SPEC = "io.imagesmith.spec"
patched("drops what the base's env had", "upper", "env.over-base",
        patches=of_upper(lambda config: config.update(
            Env=[each for each in config["Env"] if not each.startswith("CONFORMANCE_LOWER=")])))  # fmt: skip
patched("drops the base's user", "upper", "base.kept",
        patches=of_upper(lambda config: config.pop("User", None)))  # fmt: skip


def stale(asked: BuildRequest) -> BuildRequest:
    text = repr(dict(asked.base.config))
    if "CONFORMANCE_LOWER=kept" not in text:
        return asked
    inner = dict(asked.base.config["config"])  # type: ignore[call-overload]
    inner["Env"] = [entry.replace("LOWER=kept", "LOWER=lost") for entry in inner["Env"]]
    return replace(asked, base=replace(asked.base, config={**asked.base.config, "config": inner}))


told("takes the base's env from elsewhere", "upper", "base.commands", "env.over-base", request=stale)


def elsewhere(asked: BuildRequest) -> BuildRequest:
    if not asked.base.local:
        ELSEWHERE.append(asked.base)
        return asked
    other = ELSEWHERE[-1]
    return replace(
        asked, base=replace(asked.base, reference=other.reference, digest=other.digest, local=False)
    )


ELSEWHERE: list[BaseImage] = []
told("builds on another base", "upper", "base.spec", request=elsewhere)

# Publishing

patched("never finds what stands", "rich", "publish.exists", "publish.reuse",
        patches=[(places.Place, "find", lambda real: lambda self, tag: None)])  # fmt: skip
patched("builds again what stands", "rich", "publish.reuse",
        patches=[(pipeline, "reusable", lambda real: lambda *arguments: None)])  # fmt: skip


def unforced(real: Any) -> Any:
    def build(*arguments: Any, force: bool = False, **named: Any) -> Any:
        return real(*arguments, **named)

    return build


patched("does not hear force", "publish", "publish.force", patches=[(pipeline, "build", unforced)])


@contextlib.contextmanager
def unlocked(*arguments: object, **options: object) -> Iterator[bool]:
    yield True


@contextlib.contextmanager
def locked_here(*arguments: object, **options: object) -> Iterator[bool]:
    """Among the threads of this process only."""
    with ONE:
        yield True


ONE = threading.Lock()
patched(
    "locks nothing", "publish", "publish.once", "publish.processes",
    patches=[(pipeline, "locked", lambda real: unlocked)],
)  # fmt: skip
patched(
    "locks out threads, not processes", "processes", "publish.processes",
    patches=[(pipeline, "locked", lambda real: locked_here)],
)  # fmt: skip


def early(self: Saboteur, plan: BuildPlan, report: Reporter) -> Built:
    from imagesmith.settings import load_settings

    spec = plan.request.spec
    tag = existence.exists(spec, settings=load_settings(Path("/"), dict(self.environment.env))).reference
    built = self.inner.build(plan, report)
    with self.local() as store:
        store.publish(built.digest, tag)
    report(StepLog("x", "early"))
    return built


def littering(self: Saboteur, plan: BuildPlan, report: Reporter) -> Built:
    built = self.inner.build(plan, report)
    with self.local() as store:
        store.publish(built.digest, f"{plan.request.spec.name}:left")
    return built


def forgetful(self: Saboteur, plan: BuildPlan, report: Reporter) -> Built:
    return replace(self.inner.build(plan, report), contributed=Contribution())


def flattening(self: Saboteur, plan: BuildPlan, report: Reporter) -> Built:
    """Takes a conda environment for files and nothing else."""
    tree = plan.request.conda
    if tree is None or tree.folder is None:
        return self.inner.build(plan, report)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(tree.folder, copy, symlinks=False)
        request = replace(plan.request, conda=replace(tree, folder=copy))
        return self.inner.build(replace(plan, request=request), report)


def without_conda(real: Any) -> Any:
    def environment(*arguments: Any) -> dict[str, str]:
        found: dict[str, str] = real(*arguments)
        return {**found, "PATH": found["PATH"].removeprefix("/opt/conda/bin:")}

    return environment


told("forgets where conda's programs are", "conda", "conda.path", "conda.installed", build=forgetful)
told("follows links", "conda", "conda.files", build=flattening)
patched(
    "hides conda from commands", "conda", "conda.commands",
    patches=[(scripts, "command_environment", without_conda)],
)  # fmt: skip
patched(
    "tells no packages", "conda", "conda.result",
    patches=[(conda_environments.Environments, "packages", lambda real: ())],
)  # fmt: skip


def without_cuda(real: Any) -> Any:
    return lambda self, spec: real(self, spec.replace(cuda=None, cudnn=None))


patched(
    "does not hear of cuda", "cuda", "base.cuda",
    patches=[(settings.Settings, "default_base", without_cuda)],
)  # fmt: skip


def losing(self: Saboteur, plan: BuildPlan, report: Reporter) -> Built:
    """As engines do that commit a container: what stands in a volume is not of it."""
    config: Any = plan.request.base.config.get("config")
    if not config.get("Volumes"):
        return self.inner.build(plan, report)
    request = spec_of(plan.request, commands=[*plan.request.spec.commands, "rm -rf /workspace/*"])
    return self.inner.build(self.inner.plan(request), report)


told("commits containers", "volume", "base.volume", build=losing)


def crowding(self: Saboteur, plan: BuildPlan, report: Reporter) -> Built:
    """Leave a container, which removes itself once it was seen."""
    built, base = self.inner.build(plan, report), plan.request.base.pinned
    with contextlib.closing(connect(self.environment.env)) as client:
        client.pull(base)
        config = client.create_host_config(auto_remove=True)
        made = client.create_container(base, ["sleep", "60"], entrypoint=[], host_config=config)
        client.start(made["Id"])
    return built


told("publishes early", "publish", "publish.last", build=early)
told("leaves a container", "container", "publish.clean", build=crowding)
told("leaves another name", "publish", "publish.clean", build=littering)

# Registries


def unpushed(real: Any) -> Any:
    def publish(self: Any, digest: str, tag: str) -> None:
        other = self.read("imagesmith-staging")
        return real(self, other.digest if other and other.digest != digest else digest, tag)

    return publish


patched("loses env on the way to the registry", "registry", "registry.push",
        patches=reenv(lambda key, value: None if value.startswith("one\n") else value))  # fmt: skip
told("builds layers anew for nothing", "registry", "registry.env-moves-nothing",
     request=lambda asked: spec_of(asked, commands=[f"echo {uuid.uuid4()} > nonce"]))  # fmt: skip


def asks_the_engine(real: Any) -> Any:
    def find(self: places.Place, tag: str) -> Any:
        engine.local_store(self._env).close()
        return real(self, tag)

    return find


patched("asks an engine for everything", "registry", "registry.no-engine",
        patches=[(places.Place, "find", asks_the_engine)])  # fmt: skip
told("forgets the login", "login", "registry.private",
     request=lambda asked: spec_of(asked, registry_config=None))  # fmt: skip


def unhinted(self: Saboteur, plan: BuildPlan, report: Reporter) -> Built:
    try:
        return self.inner.build(plan, report)
    except ImagesmithError as error:
        error.hint = None
        raise


told("says no more than no", "login", "registry.refused", build=unhinted)
told("builds one platform for all", "several", "platform.several",
     request=lambda asked: replace(asked, platform="linux/amd64"))  # fmt: skip

# Secrets

told("forgets the secret file", "private", "secrets.mounted",
     request=lambda asked: spec_of(asked, pip_secret_mounts=()))  # fmt: skip
told("forgets the login of the index", "private", ALL,
     request=lambda asked: replace(
         asked, secrets={key: value for key, value in asked.secrets.items() if key != "pip.conf"}
     ))  # fmt: skip
told("loses the packages of a further index", "private", "index.extra",
     request=adds("python -m pip uninstall -y -q conformance-extra"))  # fmt: skip
told("loses the packages of an index that a variable names", "private", "index.variable",
     request=adds("python -m pip uninstall -y -q conformance-told"))  # fmt: skip
told("loses the packages of the private index", "private", "index.private",
     request=adds("python -m pip uninstall -y -q conformance-private"))  # fmt: skip
told("hides a secret under a later layer", "private", "secrets.layers",
     request=adds("echo aHVudGVyMi1jb25mb3JtYW5jZQ== | base64 -d > /leak", "rm /leak"))  # fmt: skip
told("tells a secret", "private", "secrets.told",
     build=lambda self, plan, report: (
         report(StepLog("x", SECRET)), self.inner.build(plan, report))[1])  # fmt: skip


def with_logins(real: Any) -> Any:
    def tag_for(spec: Any, digests: Any, settings: Any) -> Any:
        return real(spec, {**digests, "login": f"file:{spec.pip_index}"}, settings)

    return tag_for


patched(
    "lets logins into the tag", "private", "secrets.other-login", patches=[(pipeline, "tag_for", with_logins)]
)

# Faults

told("goes on after a line that fails", "fault", "fault.set-eu", request=before_each("set +eu"))
told("takes failing commands as they are", "fault",
     "fault.set-eu", "fault.command", "fault.nothing-left", "fault.values",
     request=lambda asked: spec_of(
         asked, commands=[f"({each}\n) || true" for each in asked.spec.commands if "UNSET" not in each]
     ))  # fmt: skip


def changes_failures(change: Callable[[Saboteur, BuildFailed, BuildPlan], None]) -> Any:
    def build(self: Saboteur, plan: BuildPlan, report: Reporter) -> Built:
        try:
            return self.inner.build(plan, report)
        except BuildFailed as error:
            change(self, error, plan)
            raise

    return build


def silenced(self: Saboteur, error: BuildFailed, plan: BuildPlan) -> None:
    error.tail = ()


def leaving(self: Saboteur, error: BuildFailed, plan: BuildPlan) -> None:
    with self.local() as store:
        some = self.inner.build(self.inner.plan(spec_of(plan.request, commands=())), lambda event: None)
        store.publish(some.digest, f"{plan.request.spec.name}:left")


def chatting(self: Saboteur, plan: BuildPlan, report: Reporter) -> Built:
    report(StepLog("x", plan.request.spec.env.get("CONFORMANCE", "")))
    return self.inner.build(plan, report)


told("tells a value", "fault", "fault.values", build=chatting)
told("keeps the last lines to itself", "fault", "fault.command", build=changes_failures(silenced))
told("leaves half an image", "fault", "fault.nothing-left", build=changes_failures(leaving))
told("installs nothing and says nothing", "fault", "fault.package",
     request=lambda asked: replace(asked, staged=replace(asked.staged, has_requirements=False)))  # fmt: skip


def unresolved(real: Any) -> Any:
    def resolve(spec: Any, reference: str, *more: Any) -> Any:
        return {platform: BaseImage(reference) for platform in spec.platforms}

    return resolve


patched("asks the builder for what the base lacks", "refusal", "fault.base", "fault.platform",
        patches=[(bases, "resolve", unresolved)])  # fmt: skip


def unready(self: Saboteur) -> Readiness:
    found = self.inner.ready()
    if not found.ok:  # a hint that lacks would not be seen: the core adds one of its own
        raise RuntimeError(found.problem)
    return found


told("is lost without an engine", "refusal", "fault.dead-engine", ready=unready)


def deaf(self: Saboteur, plan: BuildPlan, report: Reporter) -> Built:
    try:
        return self.inner.build(plan, report)
    except KeyboardInterrupt:
        raise BuildFailed("something happened", builder="envd") from None


told("takes an interrupt for a failure", "interrupt", "fault.interrupt", build=deaf)
told("takes another env for another image", "plain", "env.no-rebuild",
     request=lambda asked: spec_of(asked, commands=[f"echo {uuid.uuid4()} > nonce"]))  # fmt: skip
