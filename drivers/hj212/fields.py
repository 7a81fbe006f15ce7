"""What a data segment says: header fields, parameters, factors; each way in which it left its standard is a label.

    message = parse(segment)         any bytes; never raises
    message = parse_frame(frame)     the same, with what the frame itself tells

Nothing is refused here. Values stay the texts that were sent; what they mean is a matter of profiles (dialect.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from drivers.hj212.framing import Frame

DEVIATIONS: Final[dict[str, str]] = {
    "crc-lowercase": "CRC in lower-case digits",
    "crc-modbus": "CRC-16/MODBUS, low byte first, as set for this device",
    "crc-of-cipher": "CRC of the encrypted text, not of the plain one",
    "segment-long": "more than 1024 bytes",
    "cp-long": "CP of more than 950 characters",
    "cp-missing": "no CP",
    "cp-separator": "no ; before CP",
    "cp-open": "CP does not end with && at the end of the segment",
    "comma": "comma between header fields or parameters where ; belongs",
    "blanks": "blanks around names or values",
    "name-case": "a name in other letters than the standard's: FLAG, rtd",
    "header-order": "header fields in another order",
    "header-repeated": "a header field stands twice; the first counts",
    "header-unknown": "a header field that the standard does not know",
    "item-empty": "nothing between two separators, or behind the last one",
    "item-unnamed": "an item without =",
    "value-empty": "a name without a value",
    "param-repeated": "a parameter stands twice; the first counts",
    "qn-missing": "no QN: nothing can be acknowledged",
    "qn-13-digits": "QN is a number of milliseconds, not a time in digits",
    "qn-form": "QN is not 17 digits",
    "st-missing": "no ST",
    "st-unknown": "ST that no edition lists and that is no letter and digit",
    "cn-form": "CN is missing or not four digits",
    "pw-form": "PW is missing or not six characters",
    "mn-missing": "no MN",
    "mn-form": "MN is not 24 digits of 0-9 and A-F",
    "flag-missing": "no Flag",
    "flag-form": "Flag is no number from 0 to 255",
    "flag-parts": "Flag announces packet numbers that are not there, or does not announce those that are",
    "parts-form": "PNUM and PNO that do not fit each other",
    "rf-form": "RF is not 1",
    "time-form": "DataTime is not 14 digits",
    "gbk": "text in GBK, not in UTF-8",
    "encoding": "bytes that are no text",
}
"""Label → what it means."""
SEGMENT_LIMIT_BYTES: Final = 1024
CP_LIMIT: Final = 950
FACTORS_MAX: Final = 2000
"""More than a segment of 9999 bytes can hold."""
HEADER: Final = ("QN", "ST", "CN", "PW", "MN", "Flag", "PNUM", "PNO", "RF")
"""In the order of the standard."""
STS: Final = frozenset(
    ("21", "22", "23", "24", "25", "26", "27", "31", "32", "33", "34", "35", "36", "37", "38", "39", "41", "44", "45",
     "51", "52", "91")
)  # fmt: skip
"""2017 table 5; 44 and 45 are of 2025."""
FIELDS: Final = (
    "SampleTime", "Rtd", "Min", "Avg", "Max", "ZsRtd", "ZsMin", "ZsAvg", "ZsMax", "Cou", "Flag", "EFlag", "RS", "RT",
    "Info", "SN", "Data", "ID",
)  # fmt: skip
"""What may stand behind a code and its dash."""

_HEADER_NAMES: Final = {name.lower(): name for name in HEADER}
_FIELD_NAMES: Final = {name: name for name in FIELDS}
_FIELD_CASES: Final = {name.lower(): name for name in FIELDS}
_PARAM_CASES: Final = {
    name.lower(): name
    for name in (
        "DataTime", "SystemTime", "BeginTime", "EndTime", "RtdInterval", "MinInterval", "RestartTime", "PolId", "QnRtn",
        "ExeRtn", "OverTime", "ReCount", "NewPW", "CstartTime", "CTime", "Stime", "VaseNo", "InfoId", "SKCreateTime",
        "QN",
    )
}  # fmt: skip
_WELL_FORMED: Final = re.compile(
    r"QN=(\d{17});ST=(\w\w);CN=(\d{4});PW=([^;=&,\s]{6});MN=([0-9A-F]{24});Flag=(\d{1,3});"
    r"(?:PNUM=(\d{1,4});PNO=(\d{1,4});)?(?:RF=(1);)?CP=&&(.*)&&",
    re.ASCII | re.DOTALL,
)
_CP: Final = re.compile(r"CP\s*=\s*&&", re.IGNORECASE)
_MN: Final = re.compile(r"[0-9A-F]{24}", re.ASCII)
_DIGITS: Final = re.compile(r"\d+", re.ASCII)
_BLANK: Final = re.compile(r"\s")
_EXTENDED_ST: Final = re.compile(r"[A-Z]\d", re.ASCII)

Factor = tuple[str, dict[str, str]]
"""Code, and its fields by name: ("a34041", {"Rtd": "0.77", "Flag": "N"}). A code may come several times."""


@dataclass(slots=True)
class Message:
    """One data segment. Header fields that are not there are empty texts, or None for numbers."""

    qn: str = ""
    st: str = ""
    cn: str = ""
    pw: str = ""
    mn: str = ""
    flag: int | None = None
    pnum: int | None = None
    pno: int | None = None
    backfill: bool = False
    """RF=1."""
    cp: str = ""
    """Between CP=&& and &&."""
    params: dict[str, str] = field(default_factory=dict)
    factors: list[Factor] = field(default_factory=list)
    deviations: set[str] = field(default_factory=set)
    others: dict[str, str] = field(default_factory=dict)
    """Header fields that the standard does not know."""

    @property
    def version(self) -> int:
        """0: 2005, or no Flag; 1: 2017; 2: 2025; above: not published."""
        return (self.flag or 0) >> 2

    @property
    def wants_answer(self) -> bool:
        """Bit A of Flag."""
        return bool((self.flag or 0) & 1)

    @property
    def is_part(self) -> bool:
        """One of several. The numbers count: Flag often announces some that are not there."""
        return self.pnum is not None and self.pno is not None and self.pnum > 1 and 1 <= self.pno <= self.pnum

    @property
    def is_encrypted(self) -> bool:
        """Its CP is `{0xE4,…}tail`: no parameters and no factors can be read yet."""
        return self.cp.startswith("{0x")


def parse_frame(frame: Frame) -> Message:
    """The message of a frame."""
    message = parse(frame.segment)
    tail = frame.raw[-4:]
    if tail != tail.upper():
        message.deviations.add("crc-lowercase")
    if frame.crc == "modbus_low_byte_first":
        message.deviations.add("crc-modbus")
    return message


def parse(segment: bytes) -> Message:
    """The message of a data segment."""
    deviations: set[str] = set()
    text = _text(segment, deviations)
    if len(segment) > SEGMENT_LIMIT_BYTES:
        deviations.add("segment-long")
    found = _WELL_FORMED.fullmatch(text)
    if found is None:
        message = _parse_header(text, deviations)
    else:
        qn, st, cn, pw, mn, flag, pnum, pno, backfill, cp = found.groups()
        number = int(flag)
        message = Message(
            qn, st, cn, pw, mn, number if number < 256 else None, int(pnum) if pnum else None,
            int(pno) if pno else None, backfill is not None, cp, deviations=deviations,
        )  # fmt: skip
        if number > 255:
            deviations.add("flag-form")
        if st not in STS:
            _check_st(st, deviations)
    _check_parts(message)
    cp = message.cp
    if len(cp) > CP_LIMIT:
        deviations.add("cp-long")
    if cp and not message.is_encrypted:
        _parse_cp(message)
        time = message.params.get("DataTime")
        if time is not None and not (len(time) == 14 and time.isdigit()):
            deviations.add("time-form")
    return message


def _text(segment: bytes, deviations: set[str]) -> str:
    try:
        return segment.decode("ascii")
    except UnicodeDecodeError:
        pass
    try:
        return segment.decode("utf-8")  # logs are UTF-8 by the standard
    except UnicodeDecodeError:
        pass
    try:
        text = segment.decode("gb18030")
        deviations.add("gbk")
    except UnicodeDecodeError:
        text = segment.decode("latin-1")
        deviations.add("encoding")
    return text


# ---------------------------------------------------------------- header


def _parse_header(text: str, deviations: set[str]) -> Message:
    """The header of a segment that is not written as the standard says."""
    head, cp = _split_cp(text, deviations)
    names: dict[str, str] = {}
    others: dict[str, str] = {}
    if "," in head:
        deviations.add("comma")
    items = re.split("[;,]", head)
    for item in items[:-1] if not items[-1] else items:
        name, sign, value = (part.strip() for part in item.partition("="))
        if f"{name}{sign}{value}" != item:
            deviations.add("blanks")
        if not sign:
            deviations.add("item-unnamed" if name else "item-empty")
            continue
        known = _HEADER_NAMES.get(name.lower())
        if known is None:
            deviations.add("header-unknown")
            others.setdefault(name, value)
            continue
        if known != name:
            deviations.add("name-case")
        if known in names:
            deviations.add("header-repeated")
        names.setdefault(known, value)
    order = [HEADER.index(name) for name in names]
    if order != sorted(order):
        deviations.add("header-order")
    message = Message(cp=cp, deviations=deviations, others=others)
    _fill(message, names)
    return message


def _split_cp(text: str, deviations: set[str]) -> tuple[str, str]:
    """What stands before CP, and in it."""
    head, mark, cp = text.partition("CP=&&")
    if not mark:
        found = _CP.search(text)
        if found is None:
            deviations.add("cp-missing")
            return text, ""
        deviations.add("blanks" if any(sign.isspace() for sign in found[0]) else "name-case")
        head, cp = text[: found.start()], text[found.end() :]
    if head and head[-1] != ";":
        deviations.add("cp-separator")
    if not cp.endswith("&&"):
        deviations.add("cp-open")
        if cp.rstrip().endswith("&&"):
            deviations.add("blanks")
        inside, mark, _ = cp.rpartition("&&")
        return head, inside if mark else cp
    return head, cp[:-2]


def _fill(message: Message, names: dict[str, str]) -> None:
    deviations = message.deviations
    message.qn = qn = names.get("QN", "")
    if not _is_digits(qn, 17):
        deviations.add("qn-missing" if not qn else "qn-13-digits" if _is_digits(qn, 13) else "qn-form")
    message.st = names.get("ST", "")
    _check_st(message.st, deviations)
    message.cn = names.get("CN", "")
    if not _is_digits(message.cn, 4):
        deviations.add("cn-form")
    message.pw = names.get("PW", "")
    if len(message.pw) != 6:
        deviations.add("pw-form")
    message.mn = names.get("MN", "")
    if not _MN.fullmatch(message.mn):
        deviations.add("mn-form" if message.mn else "mn-missing")
    flag = names.get("Flag")
    message.flag = _number(flag, 255)
    if message.flag is None:
        deviations.add("flag-missing" if flag is None else "flag-form")
    message.pnum, message.pno = _number(names.get("PNUM"), 9999), _number(names.get("PNO"), 9999)
    if ("PNUM" in names and message.pnum is None) or ("PNO" in names and message.pno is None):
        deviations.add("parts-form")
    message.backfill = names.get("RF") == "1"
    if "RF" in names and not message.backfill:
        deviations.add("rf-form")


def _check_st(st: str, deviations: set[str]) -> None:
    if not st:
        deviations.add("st-missing")
    elif st not in STS and not _EXTENDED_ST.fullmatch(st):
        deviations.add("st-unknown")


def _check_parts(message: Message) -> None:
    pnum, pno = message.pnum, message.pno
    there = pnum is not None and pno is not None
    if message.flag is not None and bool(message.flag & 2) is not there:
        message.deviations.add("flag-parts")
    if (pnum is None) is not (pno is None) or (pnum is not None and pno is not None and not 1 <= pno <= pnum):
        message.deviations.add("parts-form")


def _is_digits(text: str, count: int) -> bool:
    return len(text) == count and _DIGITS.fullmatch(text) is not None


def _number(text: str | None, largest: int) -> int | None:
    if not text or len(text) > 9 or not _DIGITS.fullmatch(text) or int(text) > largest:
        return None
    return int(text)


# ---------------------------------------------------------------- CP


def _parse_cp(message: Message) -> None:
    """Items between semicolons, sub-values between commas."""
    params, factors, deviations = message.params, message.factors, message.deviations
    has_blanks = _BLANK.search(message.cp) is not None
    for item in message.cp.split(";"):
        code: str | None = None
        fields: dict[str, str] = {}
        for sub in item.split(","):
            name, sign, value = sub.partition("=")
            if has_blanks or not sign or not name or not value:
                name, value = _mend(sub, deviations)
                if not name:
                    continue
            head, dash, tail = name.rpartition("-")
            if not dash:
                if sub != item:
                    deviations.add("comma")
                _param(params, name, value, deviations)
                continue
            if tail not in _FIELD_NAMES:
                tail = _field(tail, deviations)
            if head != code or tail in fields:
                code, fields = head, {}
                factors.append((head, fields))
            fields[tail] = value
    if len(factors) > FACTORS_MAX:
        del factors[FACTORS_MAX:]


def _mend(sub: str, deviations: set[str]) -> tuple[str, str]:
    """Name and value of what is not `name=value`; an empty name for what is nothing."""
    name, sign, value = sub.partition("=")
    if not sub.strip() or (sign and not name.strip()):
        deviations.add("item-empty" if not sub.strip() else "item-unnamed")
        return "", ""
    if not sign:
        deviations.add("item-unnamed")
    elif not value.strip():
        deviations.add("value-empty")
    if name != name.strip() or value != value.strip():
        deviations.add("blanks")
    return name.strip(), value.strip()


def _param(params: dict[str, str], name: str, value: str, deviations: set[str]) -> None:
    known = _PARAM_CASES.get(name.lower(), name)
    if known != name:
        deviations.add("name-case")
    if known in params:
        deviations.add("param-repeated")
    params.setdefault(known, value)


def _field(name: str, deviations: set[str]) -> str:
    known = _FIELD_CASES.get(name.lower())
    if known is None:
        return name
    deviations.add("name-case")
    return known
