"""Settings: what is read, what wins, and how each mistake is told."""

import re
from pathlib import Path

import pytest

from common import config
from common.config import ConfigError, Settings, load

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
INVALID = sorted((HERE / "invalid_configs").glob("*.yaml"))


def folder(tmp_path: Path, text: str) -> Path:
    (tmp_path / "settings.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def complaint(tmp_path: Path, text: str, **environ: str) -> str:
    """The message of a wrong configuration, with the file as `settings.yaml`."""
    with pytest.raises(ConfigError) as refused:
        load(folder(tmp_path, text), environ)
    return str(refused.value).replace(f"{tmp_path}/", "")


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    """Every setting has a default."""
    assert load(folder(tmp_path, ""), {}) == Settings()


def test_the_file_of_the_repository_says_what_the_defaults_are() -> None:
    """`config/settings.yaml` is good, and with its comments removed it still says nothing but the defaults."""
    text = (ROOT / "config/settings.yaml").read_text()
    assert load(ROOT / "config", {}) == Settings()
    shown = re.findall(r"^ *(?:# )?([a-z_]+): ", text, re.MULTILINE)
    assert sorted(shown) == sorted(key.rpartition(".")[2] for key in config.FIELDS)


def test_the_commented_defaults_are_true(tmp_path: Path) -> None:
    """Each default that `config/settings.yaml` shows in a comment is the default."""
    text = (ROOT / "config/settings.yaml").read_text()
    assert load(folder(tmp_path, re.sub(r"^( *)# ([a-z_]+: )", r"\1\2", text, flags=re.MULTILINE)), {}) == Settings()


def test_the_environment_wins(tmp_path: Path) -> None:
    """A variable overrides the file: at the top, in a section, as a list, and as a path."""
    settings = load(
        folder(tmp_path, "symbols: [ADAUSDT]\ningest: {flush_ms: 1, drain_s: 2}\n"),
        {
            "MASERVER_SYMBOLS": "BTCUSDT, 测试USDT",
            "MASERVER_INGEST__FLUSH_MS": "7.5",
            "MASERVER_DATA_DIR": "/somewhere",
            "MASERVER_LOG__LEVEL": "DEBUG",
            "MASERVER_UM_WS_URL": "ws://127.0.0.1:9443/",
        },
    )
    assert settings.symbols == ["BTCUSDT", "测试USDT"]
    assert (settings.ingest.flush_ms, settings.ingest.drain_s) == (7.5, 2.0)
    assert settings.data_dir == Path("/somewhere")
    assert settings.log.level == "DEBUG"
    assert settings.um_ws_url == "ws://127.0.0.1:9443"


def test_a_whole_number_is_a_number(tmp_path: Path) -> None:
    """`flush_ms: 4` is as good as 4.0, and arrives as a float."""
    flush_ms = load(folder(tmp_path, "ingest: {flush_ms: 4}"), {}).ingest.flush_ms
    assert isinstance(flush_ms, float)


def test_the_folder_comes_from_the_environment(tmp_path: Path) -> None:
    """Without `--config`, MASERVER_CONFIG_DIR names the folder."""
    folder(tmp_path, "symbols: [ADAUSDT]")
    assert load(None, {"MASERVER_CONFIG_DIR": str(tmp_path)}).symbols == ["ADAUSDT"]


def test_variables_that_are_no_settings_pass(tmp_path: Path) -> None:
    """The documented variables that are no settings, those of tests, and those of others are left alone."""
    environ = dict.fromkeys((*config.NO_SETTINGS, "MASERVER_TEST_REDIS_URL", "PATH", "MASERVERLESS"), "1")
    assert load(folder(tmp_path, ""), environ) == Settings()


@pytest.mark.parametrize("wrong", INVALID, ids=lambda path: path.stem)
def test_a_wrong_configuration_is_told_exactly(tmp_path: Path, wrong: Path) -> None:
    """Each file of `invalid_configs` is refused with exactly the message beside it."""
    assert complaint(tmp_path, wrong.read_text(encoding="utf-8")) == wrong.with_suffix(".message").read_text().strip()


def test_there_are_wrong_configurations() -> None:
    """The folder was found, and each of its files has its message."""
    assert len(INVALID) >= 10
    assert {path.stem for path in INVALID} == {path.stem for path in (HERE / "invalid_configs").glob("*.message")}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SYMBOL", "BTCUSDT", "unknown variable; did you mean MASERVER_SYMBOLS?"),
        ("INGEST_FLUSH_MS", "4", "unknown variable; did you mean MASERVER_INGEST__FLUSH_MS?"),
        ("SYMBOLS", " ", "is set but empty; unset it or give it a value"),
        ("SYMBOLS", "BTCUSDT,", "'' is no symbol; a symbol has letters, digits and _ only, as in BTCUSDT"),
        ("SYMBOLS", "BTCUSDT,btcusdt", "symbol 'btcusdt' is not in upper case; write BTCUSDT"),
        ("INGEST__FLUSH_MS", "fast", "expected a number above 0 and at most 60000, got 'fast'"),
        ("INGEST__FLUSH_MS", "nan", "expected a number above 0 and at most 60000, got nan"),
        ("ARCHIVER__SHARDS", "2.5", "expected a whole number from 1 to 256, got 2.5"),
        ("LOG__LEVEL", "warn", "expected one of DEBUG, ERROR, INFO, WARNING, got 'warn'; did you mean WARNING?"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path: Path, name: str, value: str, message: str) -> None:
    """A mistake in the environment names the variable, not the file."""
    environ = {f"MASERVER_{name}": value}
    assert complaint(tmp_path, "", **environ) == f"environment: MASERVER_{name}: {message}"


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """The file's problems and the environment's come in one message, one on each line."""
    told = complaint(tmp_path, "foo: 1\nmarkets: [usdm]\n", MASERVER_X="1").splitlines()
    places = ["settings.yaml:1: foo: ", "settings.yaml:2: markets: ", "environment: MASERVER_X: "]
    assert [line.startswith(place) for line, place in zip(told, places, strict=True)] == [True, True, True]


def test_a_contradiction_names_where_it_was_set(tmp_path: Path) -> None:
    """A channel that no configured market has is told at the place that set the channels."""
    told = complaint(tmp_path, "markets: [spot]", MASERVER_CHANNELS="aggTrade,markPrice")
    assert told == (
        "environment: MASERVER_CHANNELS: markPrice is a channel of um, and markets has only spot; "
        "add the market or remove the channel"
    )


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """A missing file names itself and how to name another folder."""
    with pytest.raises(ConfigError, match=r"settings\.yaml: no such file; name the folder .* --config DIR"):
        load(tmp_path / "nowhere", {})


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a: \x00", b"- x"])
def test_what_is_no_text_of_keys_is_refused(tmp_path: Path, data: bytes) -> None:
    """Bytes that are no UTF-8, control characters and lists are refused, not a crash."""
    (tmp_path / "settings.yaml").write_bytes(data)
    with pytest.raises(ConfigError, match=r"settings\.yaml"):
        load(tmp_path, {})


def test_a_password_is_not_repeated(tmp_path: Path) -> None:
    """A wrong address is not shown: it may hold a password."""
    assert "secret" not in complaint(tmp_path, "redis_url: http://user:secret@host:99999")


@pytest.mark.parametrize("key", [*config.FIELDS])
def test_every_setting_is_documented(key: str) -> None:
    """`docs/configuration.md` has a row with each setting's key, variable and default."""
    text = (ROOT / "docs/configuration.md").read_text()
    field = config.FIELDS[key]
    default = field.default_factory() if callable(field.default_factory) else field.default
    shown = ", ".join(default) or "none" if isinstance(default, list) else default
    shown = f"{default:g}" if isinstance(default, float) else shown
    assert f"| `{key}` | `{config.variable(key)}` | `{shown}` |" in text


@pytest.mark.parametrize("name", [*config.NO_SETTINGS, config.TEST_PREFIX])
def test_every_variable_that_is_no_setting_is_documented(name: str) -> None:
    """`docs/configuration.md` names the variables that are no settings."""
    assert f"`{name}" in (ROOT / "docs/configuration.md").read_text()
