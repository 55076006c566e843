"""What the finished image's configuration says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith import BaseImage, Contribution, ImageSpec
from imagesmith.configuration import (
    DEFAULT_PATH,
    differences,
    document,
    environment,
    expand,
    final_user,
    search_path,
    wanted,
)

DIGEST = "sha256:" + "b" * 64
WORK = "/workspace:/opt/imagesmith"


def base(reference: str = "docker.io/library/python:3.12", **config: object) -> BaseImage:
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-05-06T07:08:09Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": ["sha256:1", "sha256:2"]},
        "history": [
            {"created_by": "ADD rootfs"},
            {"created_by": "ENV A=b", "empty_layer": True},
            {"created_by": "RUN something"},
        ],
    }
    return BaseImage(reference, DIGEST, document)


def built(*layers: str) -> dict[str, object]:
    diff_ids = ["sha256:1", "sha256:2", *layers]
    return {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["SECRET=hunter2"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": "RUN TOKEN=hunter2 pip install x"}],
        "moby.buildkit.buildinfo.v1": "hunter2",
    }


def config_of(spec: ImageSpec, under: BaseImage | None = None, **contributed: object) -> dict[str, object]:
    contribution = Contribution(**contributed)  # type: ignore[arg-type]
    return wanted(under or base(), spec, contribution, tag="t1", builder="envd 0.1.0", version="0.1.0")


def env_of(spec: ImageSpec, under: BaseImage | None = None, **contributed: object) -> dict[str, str]:
    pairs = config_of(spec, under, **contributed)["Env"]
    assert isinstance(pairs, list)
    return dict(pair.split("=", 1) for pair in pairs)


# expand


@pytest.mark.parametrize(
    ("value", "expanded"),
    [
        ("/opt/x/bin:$KEY", "/opt/x/bin:BASE"),
        ("${KEY}:/y", "BASE:/y"),
        ("$KEY${KEY}$KEY", "BASEBASEBASE"),
        ("${KEY:-x}", "${KEY:-x}"),
        ("$KEYS $KEY_ $KEY1", "$KEYS $KEY_ $KEY1"),
        ("$KEY-1 $KEY.", "BASE-1 BASE."),
        ("$OTHER ${OTHER} $$ $ $(KEY)", "$OTHER ${OTHER} $$ $ $(KEY)"),
        ("$key", "$key"),
        ("${KEY", "${KEY"),
        ("a\n$KEY\n", "a\nBASE\n"),
    ],
)
def test_only_a_value_that_names_its_own_key_is_expanded(value: str, expanded: str) -> None:
    assert expand(value, "KEY", "BASE") == expanded


def test_without_a_value_of_the_base_it_stands_for_nothing() -> None:
    assert expand("a:$KEY:${KEY}", "KEY", None) == "a::"


def test_what_was_put_in_is_not_expanded_again() -> None:
    assert expand("$KEY", "KEY", r"$KEY \1 \g<0>") == r"$KEY \1 \g<0>"


@given(st.text(), st.text(min_size=1, alphabet=st.characters(categories=["L", "N"])), st.text())
@settings(max_examples=100)
def test_text_without_its_own_key_is_literal(value: str, key: str, base_value: str) -> None:
    literal = value.replace(key, "")
    assert expand(literal, key, base_value) == literal


# environment


def test_the_spec_wins_over_the_builder_and_the_builder_over_the_base() -> None:
    env = env_of(
        ImageSpec(env={"A": "spec", "B": "spec"}),
        base(Env=["A=base", "B=base", "C=base", "D=base"]),
        env={"B": "builder", "C": "builder"},
    )
    assert (env["A"], env["B"], env["C"], env["D"]) == ("spec", "spec", "builder", "base")


def test_keys_keep_the_order_of_the_base_and_new_ones_are_sorted_behind() -> None:
    env = env_of(ImageSpec(env={"z": "1", "B": "2", "a": "3"}), base(Env=["Z=0", "B=0", "PATH=/bin", "A=0"]))
    assert list(env) == ["Z", "B", "PATH", "A", "IMAGESMITH_ID", "PYTHONPATH", "a", "z"]


def test_the_folders_of_the_builder_stand_first_on_path() -> None:
    env = env_of(ImageSpec(), base(Env=["PATH=/usr/bin:/bin"]), path=("/opt/venv/bin", "/opt/conda/bin"))
    assert env["PATH"] == "/opt/venv/bin:/opt/conda/bin:/usr/bin:/bin"


def test_folders_that_stand_first_already_are_not_repeated() -> None:
    folders = ("/opt/venv/bin", "/opt/conda/bin")
    on_both = base(Env=["PATH=/opt/venv/bin:/opt/conda/bin:/bin"])
    on_one = base(Env=["PATH=/opt/conda/bin:/bin"])
    behind = base(Env=["PATH=/bin:/opt/venv/bin"])
    assert env_of(ImageSpec(), on_both, path=folders)["PATH"] == "/opt/venv/bin:/opt/conda/bin:/bin"
    assert env_of(ImageSpec(), on_one, path=folders)["PATH"] == "/opt/venv/bin:/opt/conda/bin:/bin"
    assert env_of(ImageSpec(), behind, path=folders[:1])["PATH"] == "/opt/venv/bin:/bin:/opt/venv/bin"


def test_a_base_without_path_has_the_default_of_engines() -> None:
    assert env_of(ImageSpec(), base())["PATH"] == DEFAULT_PATH
    assert env_of(ImageSpec(), base(), path=("/x",))["PATH"] == f"/x:{DEFAULT_PATH}"


def test_own_path_stands_for_what_it_would_be_without_the_entry() -> None:
    spec = ImageSpec(env={"PATH": "/mine:$PATH"})
    assert (
        env_of(spec, base(Env=["PATH=/bin"]), path=("/opt/venv/bin",))["PATH"] == "/mine:/opt/venv/bin:/bin"
    )
    assert env_of(spec, base())["PATH"] == f"/mine:{DEFAULT_PATH}"
    assert env_of(ImageSpec(env={"PATH": "/only"}), base(), path=("/opt/venv/bin",))["PATH"] == "/only"


def test_self_reference_takes_the_value_of_the_base() -> None:
    spec = ImageSpec(env={"LIBS": "${LIBS}:/x", "NEW": "$NEW!", "OTHER": "$LIBS"})
    env = env_of(spec, base(Env=["LIBS=/base"]))
    assert (env["LIBS"], env["NEW"], env["OTHER"]) == ("/base:/x", "!", "$LIBS")


def test_the_work_directory_and_the_runtime_are_on_pythonpath() -> None:
    assert env_of(ImageSpec())["PYTHONPATH"] == WORK
    assert env_of(ImageSpec(workdir="/srv"))["PYTHONPATH"] == "/srv:/opt/imagesmith"
    assert env_of(ImageSpec(), base(Env=["PYTHONPATH=/a:/b"]))["PYTHONPATH"] == f"{WORK}:/a:/b"


def test_a_base_made_by_imagesmith_is_not_added_to_pythonpath_twice() -> None:
    assert env_of(ImageSpec(), base(Env=[f"PYTHONPATH={WORK}"]))["PYTHONPATH"] == WORK


def test_the_users_pythonpath_wins_as_it_stands() -> None:
    assert env_of(ImageSpec(env={"PYTHONPATH": "/mine"}))["PYTHONPATH"] == "/mine"


def test_the_marker_is_the_specs_id_whatever_the_base_says() -> None:
    spec = ImageSpec("other")
    assert env_of(spec, base(Env=["IMAGESMITH_ID=of-the-base"]))["IMAGESMITH_ID"] == spec.id


def test_commands_see_build_env_under_env_and_never_a_marker() -> None:
    spec = ImageSpec(
        env={"A": "env", "LIBS": "$LIBS"}, build_env={"A": "build", "B": "build", "PATH": "/b:$PATH"}
    )
    under = base(Env=["IMAGESMITH_ID=of-the-base", "PATH=/bin", "LIBS=l"])
    env = environment(under.config, spec, Contribution(path=("/v",)), marker=False, build_env=True)
    assert env == {"PATH": "/b:/v:/bin", "LIBS": "l", "A": "env", "B": "build", "PYTHONPATH": WORK}


def test_build_env_is_not_in_the_image() -> None:
    assert "B" not in env_of(ImageSpec(build_env={"B": "1"}))


@given(
    st.dictionaries(
        st.text(st.characters(min_codepoint=65, max_codepoint=90), min_size=1, max_size=5).filter(
            lambda key: key not in {"PATH", "PYTHONPATH"}
        ),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        max_size=5,
    )
)
@settings(max_examples=100)
def test_values_are_kept_byte_for_byte(env: dict[str, str]) -> None:
    literal = {key: value.replace("$", "§") for key, value in env.items()}
    made = env_of(ImageSpec(env=literal), base(Env=["A=base", "PATH=/bin"]))
    assert literal.items() <= made.items()


# wanted


def test_entrypoint_and_command_follow_the_rules_of_dockerfiles() -> None:
    under = base(Entrypoint=["/e"], Cmd=["c"])
    kept, replaced, cleared = (
        config_of(ImageSpec(entrypoint=entrypoint), under) for entrypoint in (None, ["a", "b c"], [])
    )
    assert (kept["Entrypoint"], kept["Cmd"]) == (["/e"], ["c"])
    assert replaced["Entrypoint"] == ["a", "b c"]
    assert "Cmd" not in replaced
    assert "Entrypoint" not in cleared
    assert "Cmd" not in cleared


def test_work_directory_and_user() -> None:
    under = base(User="app", WorkingDir="/base")
    plain, own = config_of(ImageSpec(), under), config_of(ImageSpec(user="7:0", workdir="/w"), under)
    assert (plain["User"], plain["WorkingDir"]) == ("app", "/workspace")
    assert (own["User"], own["WorkingDir"]) == ("7:0", "/w")
    assert "User" not in config_of(ImageSpec())
    assert final_user(under.config, ImageSpec()) == "app"
    assert search_path(base(Env=["PATH=/p"]).config, ["/q"]) == "/q:/p"


def test_what_the_base_declares_beside_is_taken_over_but_no_triggers() -> None:
    beside: dict[str, Any] = {
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/data": {}},
        "Healthcheck": {"Test": ["CMD", "true"]},
        "StopSignal": "SIGINT",
    }
    config = config_of(ImageSpec(), base(OnBuild=["RUN x"], Hostname="h", Image="sha256:x", **beside))
    assert {key: config[key] for key in beside} == beside
    assert not {"OnBuild", "Hostname", "Image"} & set(config)


def test_labels_of_the_base_are_inherited_ours_replaced_the_users_win() -> None:
    under = base(
        Labels={
            "a": "base",
            "b": "base",
            "io.imagesmith.id": "of the base",
            "io.imagesmith.gone": "of the base",
            "org.opencontainers.image.base.name": "what the base was made from",
        }
    )
    spec = ImageSpec(
        labels={"b": "mine", "c": "mine"}, env={"TOKEN": "hunter2"}, pip_index="https://u:hunter2@h/s"
    )
    labels = config_of(spec, under)["Labels"]
    assert isinstance(labels, dict)
    described = json.loads(labels.pop("io.imagesmith.spec"))
    assert labels == {
        "a": "base",
        "b": "mine",
        "c": "mine",
        "io.imagesmith.builder": "envd 0.1.0",
        "io.imagesmith.id": spec.id,
        "io.imagesmith.tag": "t1",
        "io.imagesmith.version": "0.1.0",
        "org.opencontainers.image.base.digest": DIGEST,
        "org.opencontainers.image.base.name": "docker.io/library/python:3.12",
    }
    assert "hunter2" not in json.dumps(described)
    assert "TOKEN" in json.dumps(described)


def test_an_image_id_of_the_local_engine_is_no_digest_of_the_base() -> None:
    local = BaseImage("mine:1", DIGEST, base().config, local=True)
    labels = config_of(ImageSpec(), local)["Labels"]
    assert isinstance(labels, dict)
    assert "org.opencontainers.image.base.digest" not in labels
    assert labels["org.opencontainers.image.base.name"] == "mine:1"


# document


def test_history_holds_the_bases_and_one_plain_entry_for_each_layer_on_top() -> None:
    made = document(built("sha256:3", "sha256:4"), base().config, {"User": "x"}, builder="envd 0.1.0")
    added = {"created": "2024-05-06T07:08:09Z", "created_by": "imagesmith: envd 0.1.0"}
    history = made["history"]
    assert isinstance(history, list)
    assert history == [*base().config["history"], added, added]  # type: ignore[misc]
    assert len([entry for entry in history if not entry.get("empty_layer")]) == 4
    assert "hunter2" not in json.dumps(made)
    assert made["rootfs"] == built("sha256:3", "sha256:4")["rootfs"]
    assert made["config"] == {"User": "x"}


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"rootfs": {"diff_ids": ["sha256:9"]}, "history": [{"created_by": "another base"}]},
        {"rootfs": {"diff_ids": ["sha256:1"]}, "history": []},
        {"rootfs": {"diff_ids": ["sha256:1"]}, "history": [{"created_by": "a"}, {"created_by": "b"}]},
    ],
    ids=["unknown base", "not its base", "no history", "history of other layers"],
)
def test_history_accounts_for_every_layer_whatever_the_base_says(other: dict[str, object]) -> None:
    made = document(built("sha256:3"), other, {}, builder="b 1")
    history = made["history"]
    assert isinstance(history, list)
    assert len(history) == 3
    assert all(entry["created_by"].startswith("imagesmith: ") for entry in history)
    assert made["created"] == "1970-01-01T00:00:00Z"


def test_equal_layers_give_an_equal_document_and_the_time_can_be_told() -> None:
    one = document({**built("sha256:3"), "created": "now"}, base().config, {}, builder="b 1")
    other = document({**built("sha256:3"), "created": "later"}, base().config, {}, builder="b 1")
    assert one == other
    told = document(built("sha256:3"), base().config, {}, builder="b 1", created="2001-01-01T00:00:00Z")
    assert told["created"] == "2001-01-01T00:00:00Z"


# differences


def full(**config: object) -> dict[str, object]:
    return document(built(), base().config, config, builder="b 1")


def test_equal_documents_do_not_differ_and_empty_is_absent() -> None:
    one = full(Env=["A=1", "B=2"], Labels={"l": "1"}, Entrypoint=["x"])
    other = full(Env=["B=2", "A=1"], Labels={"l": "1"}, Entrypoint=["x"], Cmd=None, User="", Volumes={})
    assert differences(one, other) == ()
    assert differences(other, one) == ()


def test_every_difference_is_named_and_no_value_shown() -> None:
    have = full(
        Env=["SAME=1", "OTHER=hunter2", "EXTRA=hunter2"],
        Labels={"x": "hunter2"},
        Cmd=["c"],
        OnBuild=["RUN x"],
    )
    want = full(Env=["SAME=1", "OTHER=swordfish", "LOST=swordfish"], Labels={"y": "1"}, User="app")
    found = differences(have, want)
    assert found == (
        "env LOST: missing",
        "env OTHER: another value",
        "env EXTRA: not wanted",
        "label y: missing",
        "label x: not wanted",
        "Cmd: ['c'] instead of None",
        "User: None instead of 'app'",
        "OnBuild: ['RUN x'] instead of None",
    )


def test_platform_layers_history_and_a_key_told_twice_differ() -> None:
    want = full(Env=["A=1"])
    assert differences({**want, "architecture": "arm64"}, want) == (
        "architecture: 'arm64' instead of 'amd64'",
    )
    assert differences({**want, "rootfs": {"diff_ids": ["sha256:1"]}}, want)[0].startswith("layers: 1 other")
    assert differences({**want, "history": built()["history"]}, want) == ("history: not the plain one",)
    assert differences(full(Env=["A=0", "A=1"]), want) == ("env: a key stands there twice",)
