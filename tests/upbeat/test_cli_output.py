"""What the command line prints: nothing of what targets and other people wrote steers the terminal."""

import pytest

from upbeat.cli.output import harmless, print_fields, print_table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain – ü 🔴", "plain – ü 🔴"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("a\x1b]0;title\x07b", "a]0;titleb"),
        ("a\x1b[2Jb\x9b2Jc\rd\ne", "a[2Jb2Jcde"),
        ("to\u202edrawkcab", "todrawkcab"),
    ],
)
def test_only_colours_are_left_of_what_steers_a_terminal(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_tables_and_fields_are_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("A",), [("x\x1b]52;c;aGk=\x07y",)])
    print_fields({"text": "x\x1b]52;y\nz\x1bc"})
    said = capsys.readouterr().out
    assert "\x1b]" not in said
    assert "\x1bc" not in said
    assert said.endswith("text  x]52;y\n      zc\n")
