"""Starts buildah, and says how it reaches registries."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from imagesmith import BuildFailed, Environment, Reporter, engine, silent
from imagesmith.steps import run_step

NAME, INSTALL = "buildah", "install buildah (on Debian: apt-get install buildah), and try: buildah info"
_KEPT = ("PATH", "HOME", "XDG_RUNTIME_DIR", "BUILDAH_ISOLATION", "STORAGE_DRIVER", "CONTAINERS_STORAGE_CONF",
         "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")  # fmt: skip
_NOISE = ("subprocess exited", "Error: exit status")  # what it adds to the end of a step that failed


class Buildah:
    """Its processes see of the environment what they need, and print none of ``secrets``."""

    def __init__(self, environment: Environment, folder: Path, secrets: tuple[str, ...] = ()) -> None:
        self._environment, self.folder, self._secrets = environment, folder, secrets

    def step(self, report: Reporter, name: str, *words: str) -> None:
        """Run it as a step of the build. Raises BuildFailed, BuilderNotReady."""
        env = {"BUILDAH_ISOLATION": "chroot"}  # needs no runtime; whoever wants another says so
        env |= {key: self._environment.env[key] for key in _KEPT if key in self._environment.env}
        run_step(self._environment.runner, [NAME, *words], name=name, builder=NAME, env=env, cwd=self.folder,
                 report=report, redact=self._secrets, ignore=_NOISE, hint=INSTALL)  # fmt: skip

    def tries(self, *words: str) -> bool:
        """Whether it could; nobody hears of it."""
        try:
            self.step(silent, words[0], *words)
        except BuildFailed:
            return False
        return True

    def access(self, reference: str, registry_config: str | None) -> list[str]:
        """The options with which it reaches the registry of a reference: plain HTTP, login, certificates."""
        facts = engine.registry_facts(reference, self._environment.env, registry_config)
        words = [f"--tls-verify={'true' if facts.ca or not facts.insecure else 'false'}"]
        if facts.login is not None:
            login = self.folder / "login.json"
            login.write_text(json.dumps({"auths": {facts.host: facts.login.entry()}}), encoding="utf-8")
            words += ["--authfile", str(login)]
        if facts.ca is not None:
            (self.folder / "trusted").mkdir(exist_ok=True)
            shutil.copy(facts.ca, self.folder / "trusted" / "ca.crt")
            words += ["--cert-dir", str(self.folder / "trusted")]
        return words
