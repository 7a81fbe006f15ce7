"""The key locator: exact on nasty files, and never wrong."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.toml_lines import Path, key_lines

NASTY = '''# a comment [with] = "signs"
a = 1 # x = 2
"b c".d = """
[not.a.table]
k = 2 \\"""
""""" # five quotes end it
'l.it'.x = [ # comment ]
  1, "]", """
  ,
""", {q = 1, r.s = 'x'},
  [[2], [3,]],
]
[ t . "u" ]
x = { y = [ { z = 1 } ], w = """q
""", v=1979-05-27 07:32:00 }
[[arr]]
n = 1
[arr.sub]
m = 2
[[arr.inner]]
o=1
[[arr.inner]]
o=2
[[arr]]

n = 2
  [arr.sub]
  m = 3
["q\\u0041"]
e = -inf
f = \'\'\'a
\'\'b\'\'\'
g = ""
h = \'\'
"" = 3
i = "# no comment" # "comment
'''
NASTY_LINES: dict[Path, int] = {
    ("a",): 2,
    ("b c",): 3,
    ("b c", "d"): 3,
    ("l.it",): 7,
    ("l.it", "x"): 7,
    ("l.it", "x", 0): 8,
    ("l.it", "x", 1): 8,
    ("l.it", "x", 2): 8,
    ("l.it", "x", 3): 10,
    ("l.it", "x", 3, "q"): 10,
    ("l.it", "x", 3, "r"): 10,
    ("l.it", "x", 3, "r", "s"): 10,
    ("l.it", "x", 4): 11,
    ("l.it", "x", 4, 0): 11,
    ("l.it", "x", 4, 0, 0): 11,
    ("l.it", "x", 4, 1): 11,
    ("l.it", "x", 4, 1, 0): 11,
    ("t",): 13,
    ("t", "u"): 13,
    ("t", "u", "x"): 14,
    ("t", "u", "x", "y"): 14,
    ("t", "u", "x", "y", 0): 14,
    ("t", "u", "x", "y", 0, "z"): 14,
    ("t", "u", "x", "w"): 14,
    ("t", "u", "x", "v"): 15,
    ("arr",): 16,
    ("arr", 0): 16,
    ("arr", 0, "n"): 17,
    ("arr", 0, "sub"): 18,
    ("arr", 0, "sub", "m"): 19,
    ("arr", 0, "inner"): 20,
    ("arr", 0, "inner", 0): 20,
    ("arr", 0, "inner", 0, "o"): 21,
    ("arr", 0, "inner", 1): 22,
    ("arr", 0, "inner", 1, "o"): 23,
    ("arr", 1): 24,
    ("arr", 1, "n"): 26,
    ("arr", 1, "sub"): 27,
    ("arr", 1, "sub", "m"): 28,
    ("qA",): 29,
    ("qA", "e"): 30,
    ("qA", "f"): 31,
    ("qA", "g"): 33,
    ("qA", "h"): 34,
    ("qA", ""): 35,
    ("qA", "i"): 36,
}


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_nasty_file(ending: str) -> None:
    assert key_lines(NASTY.replace("\n", ending)) == NASTY_LINES


@pytest.mark.parametrize("text", ["", "\n\n# nothing\n", "a = ", "a = 1\na = 2", "[a\n", "\0", "a = [" * 2000])
def test_texts_without_keys_or_without_sense(text: str) -> None:
    assert key_lines(text) == {}


@given(st.text(alphabet="ab.=[]{}\"'\\#,\n 1", max_size=80))
@settings(max_examples=300)
def test_no_text_raises_and_what_is_found_is_what_there_is(text: str) -> None:
    lines = key_lines(text)
    for path, line in lines.items():
        value: object = tomllib.loads(text)
        for step in path:
            value = value[step]  # type: ignore[index]
        assert 1 <= line <= text.count("\n") + 1


keys = st.sampled_from(["a", "b-c", '"d e"', "'f.g'", '"h\\"i"', '"]"', '"#"'])
values = st.sampled_from(
    ["1", '"x"', "'#'", '"""m\nn = 1\n"""', "'''\n[x]\n'''", "[1, [2, '3'],\n # c\n 4]", "{}", "{ k = '}' }", "-1.5e3"]
)


@given(st.lists(st.tuples(st.lists(keys, min_size=1, max_size=3), values), max_size=12), st.booleans())
@settings(max_examples=200)
def test_generated_files(pairs: list[tuple[list[str], str]], tables: bool) -> None:
    """Every pair carries a number of its own as its line; a file that TOML refuses has no lines."""
    text, expected = "", {}
    for number, (key, value) in enumerate(pairs):
        header = f"[[t{number % 3}]]\n" if tables else ""
        text += header
        prefix: Path = (f"t{number % 3}", number // 3) if tables else ()
        names = [str(tomllib.loads(f"{part} = 1").popitem()[0]) for part in key]
        expected[(*prefix, *names)] = text.count("\n") + 1
        text += f"{' . '.join(key)} = {value} # {number}\n"
    lines = key_lines(text)
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assert lines == {}
    else:
        assert {path: lines[path] for path in expected} == expected
