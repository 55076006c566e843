"""The rules as a page of documentation. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagesmith.builder import Feature, Support
from imagesmith.conformance._catalogue import Tier, catalogue

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["rules"]

_HEAD = """\
<!-- Made by `imagesmith conformance --rules`: edit the checks, not this. -->
# What every builder must do

Each rule is a check with a stable id. `imagesmith conformance NAME` makes them all and prints a report
(`--tier`, `--only`, `--json`, `--junit FILE`); in a test suite:

```python
import pytest
from imagesmith.conformance import BuilderConformance


class TestMine(BuilderConformance):
    expected_failures = {}  # id -> reason; strict: one that passes is red

    @pytest.fixture
    def builder(self):
        return "mine"  # an installed one, or what makes one of an Environment
```

`imagesmith.conformance.check_builder("mine")` returns the same as a value. All of it needs the extra
`imagesmith[conformance]`, and the checks of conda packages `imagesmith[conda]`. A check whose features the
builder does not have is skipped. New checks come with minor releases only.

The live tier takes from the environment what it cannot make itself, and skips, with the reason, what needs
more than there is:

| variable | what for | unset |
|---|---|---|
| `DOCKER_HOST` (or a docker context) | the engine on which images are run | the default one |
| `IMAGESMITH_BASE_IMAGE` | base with a python; `{python_version}` stands for the version | the default |
| `IMAGESMITH_CONFORMANCE_PYTHON` | the python version to ask for | 3.11 |
| `IMAGESMITH_CONFORMANCE_APT` | an apt package with a program of its name | hello |
| `IMAGESMITH_CONFORMANCE_HOST` | the address at which builds reach this machine | the engine's bridge |
| `IMAGESMITH_CONFORMANCE_REGISTRY` | `host:port[/path]` to push to without a login | skipped |
| `IMAGESMITH_CONFORMANCE_PRIVATE_REGISTRY` | the same, with a login | skipped |
| `IMAGESMITH_CONFORMANCE_PRIVATE_CONFIG` | its `registry_config` file | skipped |
| `IMAGESMITH_CONFORMANCE_MULTI_BASE` | a base for linux/amd64 and linux/arm64 | skipped |
| `IMAGESMITH_<BUILDER>_<OPTION>` | settings of the builder, as always | |
"""

_TIERS = {
    Tier.PLAN: "Plan tier: values only, no engine, no network",
    Tier.FAKE: "Fake tier: a runner that starts nothing, and no engine",
    Tier.LIVE: "Live tier: images are built and run",
}


def rules(tables: Mapping[str, Mapping[Feature, Support]]) -> str:
    """The page, in Markdown; ``tables`` are the feature tables of the builders to compare."""
    parts = [_HEAD]
    for tier, title in _TIERS.items():
        parts += [f"\n## {title}\n", "| id | rule | needs | since |", "|---|---|---|---|"]
        for check in catalogue([tier]):
            needs = ", ".join(sorted(check.requires))
            parts.append(f"| `{check.id}` | {check.rule} | {needs} | {check.since} |")
    if tables:
        parts += ["\n## Builders and features\n", f"| feature | {' | '.join(tables)} |"]
        parts.append("|---" * (len(tables) + 1) + "|")
        for feature in sorted(Feature):
            row = [_cell(table.get(feature, Support.IMPOSSIBLE)) for table in tables.values()]
            parts.append(f"| `{feature}` | {' | '.join(row)} |")
    return "\n".join(parts) + "\n"


def _cell(support: Support) -> str:
    return "yes" if support is Support.FULL else support.value
