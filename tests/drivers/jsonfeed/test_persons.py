"""Persons leave a message at the edge: a keyed hash takes their place, in the record and in its raw bytes."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.jsonfeed.codec import Document, Leaf, parse, point
from drivers.jsonfeed.persons import Hidden, masked, plain, pseudonym
from tests.drivers.jsonfeed.talk import PHONE, Ear, body, delivery

KEY = b"k" * 32


def hidden(text: str, *pointers: str) -> Hidden:
    document = parse(text.encode())
    assert isinstance(document, Document)
    named = [point(document.root, (name,)) for name in pointers]
    return Hidden(document, [leaf for leaf in named if isinstance(leaf, Leaf)], KEY)


def test_the_record_holds_the_hash_and_says_so():
    taken = Ear().hear(delivery(1, weight=1.5))
    (draft,) = taken.drafts
    assert re.fullmatch(r"[0-9a-f]{32}", draft.data["depositor"])
    assert json.loads(draft.raw)["phone_num"] == draft.data["depositor"]
    assert draft.data["envelope"]["hidden"] == 1
    assert draft.data["envelope"]["size_bytes"] == len(body(**delivery(1, weight=1.5)))


def test_without_a_person_the_raw_bytes_are_as_they_came():
    content = b'{ "machine_id":"B-1",\t"weight" : 1.50 , "phone_num": null}'
    (draft,) = Ear().hear(content).drafts
    assert draft.raw == content
    assert "depositor" not in draft.data
    assert "hidden" not in draft.data["envelope"]


def test_the_same_person_has_the_same_hash_and_only_here():
    written = (PHONE, f"+86 {PHONE[:3]}-{PHONE[3:7]}-{PHONE[7:]}", "13900139000")
    said = [Ear().hear(delivery(1, weight=1, phone_num=phone)).drafts[0].data["depositor"] for phone in written]
    one, again, other = said
    assert one == again != other
    elsewhere = Ear(secret=b"x" * 32).hear(delivery(1, weight=1)).drafts[0].data["depositor"]
    assert elsewhere != one
    assert pseudonym(KEY, PHONE) == pseudonym(KEY, "008613800138000") == pseudonym(KEY, "１３８００１３８０００")


@pytest.mark.parametrize(
    "elsewhere",
    [
        f'"note": "{PHONE}"', f'"note": "tel:{PHONE};x"', '"note": "138 0013 8000"', '"note": "138-0013-8000, twice"',
        r'"note": "\u00313800138000"', f'"{PHONE}": 1', f'"deep": [[{{"x": {PHONE}}}]]',
        '"note": "１３８００１３８０００"',
        f'"note": "+86{PHONE}"', f'"long": "99{PHONE}99"', f'"note": "{PHONE} {PHONE}"',
    ],
)  # fmt: skip
def test_the_number_is_found_wherever_and_however_it_is_written(elsewhere):
    raw = hidden(f'{{"phone": {PHONE}, {elsewhere}}}', "phone").raw.decode()
    assert PHONE not in re.sub(r"[^0-9a-z]", "", raw.encode().decode("unicode_escape"))
    assert PHONE not in plain(json.dumps(json.loads(raw), ensure_ascii=False))


def test_other_bytes_stay():
    text = f'{{"a": 1.50,\n "phone":"{PHONE}" , "b":"\\u00e9"}}'
    found = hidden(text, "phone")
    assert found.count == 1
    assert found.raw.decode() == text.replace(PHONE, pseudonym(KEY, PHONE))


def test_short_names_are_hidden_in_their_place_only():
    found = hidden('{"card": "7", "weight": 7.7}', "card")
    assert json.loads(found.raw) == {"card": pseudonym(KEY, "7"), "weight": 7.7}


@pytest.mark.parametrize(
    "content", [b'{"phone_num":"13800138000"', "{}13800138000".encode("utf-16"), b"13800138000\xff"]
)
def test_what_cannot_be_read_is_kept_without_digits(content):
    (gap,) = Ear().hear(content).drafts
    assert gap.data["masked"] is True
    assert not re.search(rb"[1-9]", gap.raw)
    assert gap.raw == masked(content)
    assert "138" not in json.dumps(gap.data)


def test_a_message_of_persons_does_not_take_for_ever():
    phones = [f"13{number:09}" for number in range(500)]
    text = json.dumps({"p": phones, "x": "9" * 60_000 + " " + "1-" * 20_000})
    document = parse(text.encode())
    assert isinstance(document, Document)
    named = list(document.root["p"])
    began_s = time.process_time()
    raw = Hidden(document, named, KEY).raw
    assert time.process_time() - began_s < 5
    assert not any(phone.encode() in raw for phone in phones)


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_person_is_gone(person, note):
    text = json.dumps({"phone": person, "note": note + person})
    found = hidden(text, "phone")
    said = json.loads(found.raw)
    assert said["phone"] == pseudonym(KEY, person)
    if 6 <= len(plain(person)) <= 40:
        assert plain(person) not in said["note"]
