"""`upbeat templates`: what customers would read, before they do."""

from pathlib import Path

from tests.upbeat.conftest import Cli


async def test_templates_of_a_file_are_tried_on_a_beat(remote: Cli, tmp_path: Path) -> None:
    words = tmp_path / "words.yaml"
    words.write_text("templates:\n  open: outage\n  resolve: {text: '{{ what }} is well.'}\n")
    told = await remote("templates", "preview", str(words), "--beat", "db")
    assert told.code == 0, told.err
    assert "a sample: nothing was seen yet" in told.out
    assert "(title: beat, text: beat)\n  Outage: " in told.out
    assert " is well.\n" in told.out
    one = await remote("templates", "preview", str(words), "--page", "shop", "--step", "resolve", "--json")
    assert [step["text_of"] for step in one.json["steps"]] == ["page"]


async def test_a_template_that_fails_is_told_and_exits_with_1(remote: Cli, tmp_path: Path) -> None:
    words = tmp_path / "words.yaml"
    words.write_text("open: {text: '{{ what|round }}'}\n")
    told = await remote("templates", "preview", str(words), "--beat", "db", "--step", "open")
    assert (told.code, "is not that of the beat's template" in told.out) == (1, True)
    words.write_text("open: {text: '{{ wat }}'}\n")
    told = await remote("templates", "preview", str(words), "--beat", "db")
    assert (told.code, "there is no variable wat; did you mean what?" in told.err) == (2, True)


async def test_presets_and_variables_are_listed(remote: Cli) -> None:
    assert "outage" in (await remote("templates", "presets", "--quiet")).out.split()
    assert "captures.NAME" in (await remote("templates", "variables")).out
