"""Settings are one source: flags, YAML and defaults agree, and what is unusable is said by name."""

from pathlib import Path
from typing import Any

import pytest

from btc_ray.settings import (
    Audit,
    Crop,
    Demo,
    Evaluate,
    Experiments,
    Info,
    KubernetesManifest,
    Retrain,
    Review,
    Score,
    SettingsError,
    Submit,
    to_dict,
)
from btc_ray.settings.parse import parse
from btc_ray.settings.words import local_places

NEEDED = ["--model", "m", "--input", "a", "b.zip", "--output", "run"]


def score(*arguments: str) -> Score:
    return parse(Score, arguments, program="btc-ray score")


def test_flags_become_settings() -> None:
    chosen = score(*NEEDED, "--retry-failed", "--batch-size", "8", "--storage-options", "anon=true", "region=eu")
    assert chosen.input == ("a", "b.zip")
    assert chosen.retry_failed
    assert chosen.batch_size == 8
    assert chosen.storage() == {"anon": "true", "region": "eu"}


def test_a_yaml_file_holds_the_same_names_and_flags_win(tmp_path: Path) -> None:
    file = tmp_path / "night.yaml"
    file.write_text(
        "model: m\ninput: [a, b]\noutput: run\nbatch-size: 4\nlocal_rows: 7\ndry_run: true\nstorage_options: {anon: true}\n"
    )
    chosen = score("--config", str(file), "--batch-size", "32")
    assert chosen == score(
        *[
            "--model",
            "m",
            "--input",
            "a",
            "b",
            "--output",
            "run",
            "--local-rows",
            "7",
            "--dry-run",
            "--storage-options",
            "anon=True",
            "--batch-size",
            "32",
        ]
    )
    assert not score(f"--config={file}", "--no-dry-run").dry_run


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle: m", "modle is no setting of this job"),
        ("- a\n- b", "names and values"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_yaml_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "night.yaml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        score("--config", str(tmp_path / "night.yaml"))


def test_a_missing_yaml_file_is_named() -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml cannot be read"):
        score("--config", "nowhere.yaml")


@pytest.mark.parametrize("arguments", [[], ["--model", "m"], [*NEEDED, "--batch-size", "many"], [*NEEDED, "--no-such-flag"]])
def test_unusable_flags_end_with_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        score(*arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max-bad-fraction", "2"], "between 0 and 1"),
        (["--batch-size", "0"], "at least 1"),
        (["--dry-run", "--retry-failed"], "exclude each other"),
    ],
)
def test_settings_that_make_no_sense_are_refused(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        score(*NEEDED, *flags)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_secret_storage_options_are_not_told() -> None:
    chosen = score(*NEEDED, "--storage-options", "key=AKIAPLANTED", "secret=hunter2")
    assert "AKIAPLANTED" not in str(to_dict(chosen))
    assert "hunter2" not in str(to_dict(chosen))


def test_info_takes_its_folder_without_a_flag() -> None:
    assert parse(Info, ["some/run", "--json"], program="btc-ray info") == Info(path="some/run", json=True)


def test_every_flag_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in (Score, Retrain, Info):
        with pytest.raises(SystemExit) as caught:
            parse(kind, ["--help"], program="btc-ray")
        assert caught.value.code == 0
        help_text = capsys.readouterr().out
        for name in kind.__dataclass_fields__:
            assert f"--{name.replace('_', '-')}" in help_text


def test_help_is_by_subject_and_speaks_of_no_types_of_python(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in (Audit, Crop, Demo, Evaluate, Experiments, Info, KubernetesManifest, Retrain, Review, Score, Submit):
        with pytest.raises(SystemExit) as ended:
            parse(kind, ["--help"], program="btc-ray")
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert "None" not in text
        assert "STR" not in text
        assert "\nMore:\n" not in text, "a flag has no subject: settings/help.py names one for each"
        assert max(map(len, text.splitlines())) <= 110


def test_sets_from_elsewhere_have_names_and_their_places_are_known() -> None:
    chosen = Evaluate(data="d", output="o", model=("m",), external=("web=/a=b/c", "clinic=s3://x/y"))
    assert chosen.elsewhere() == {"web": "/a=b/c", "clinic": "s3://x/y"}
    assert ("--external", "/a=b/c") in local_places(chosen)
    assert ("--external", "s3://x/y") not in local_places(chosen)


@pytest.mark.parametrize("external", [("web",), ("=/a",), ("web=",), ("web=/a", "web=/b")])
def test_a_set_from_elsewhere_without_a_name_or_of_another_ones_is_refused(external: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match="--external"):
        Evaluate(data="d", output="o", model=("m",), external=external)


@pytest.mark.parametrize("risk", [0.0, 1.0])
def test_a_risk_is_a_share(risk: float) -> None:
    with pytest.raises(SettingsError, match="--target-risk"):
        Retrain(data="d", output="o", target_risk=risk)


@pytest.mark.parametrize(
    ("given", "message"),
    [({"split": "folders"}, "--split group"), ({"champion": "x"}, "--champion"), ({"folds": 1}, "2 to 50")],
)
def test_what_does_not_go_with_folds_is_told_at_once(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Retrain(**{"data": "-", "output": "-", "folds": 3, **given})
