"""A receiver's side of NMEA 0183: what a simulated vehicle's receiver sends, as bytes. Pure and seeded.

An epoch is RMC, GGA, GSA, GSV, VTG, ZDA and GST of one moment, as receivers of version 4.1 send them. Without a fix
they are void: empty fields, never zeros. Damaged sentences and binary noise between them can be mixed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from drivers.fleet.vehicles import Measurement, Vehicle, bits_of
from drivers.nmea.framing import Decoder, Sentence
from drivers.nmea.messages import Gga, Gsa, Gst, Gsv, Message, Rmc, Satellite, Unknown, Vtg, Zda
from drivers.nmea.writing import write

TALKERS: Final = ("GN", "GP", "BD", "GB", "GA", "GL")
SENTENCES: Final = ("RMC", "GGA", "GSA", "GSV", "VTG", "ZDA", "GST")

_EPOCH: Final = date(1970, 1, 1)
_SYSTEMS: Final = {"GN": (("GP", 1, 0), ("GB", 4, 200)), "GP": (("GP", 1, 0),), "BD": (("BD", 4, 200),)}
"""Of each talker: (talker of GSV, system id of GSA, added to satellite numbers)."""
_OTHERS: Final = {"GB": ("GB", 4, 200), "GA": ("GA", 3, 300), "GL": ("GL", 2, 64)}
_GEOID_MM: Final = 11_000


@dataclass(frozen=True, slots=True)
class Receiver:
    """One receiver on a vehicle."""

    vehicle: Vehicle
    talker: str = "GN"
    rate_hz: int = 1
    sentences: tuple[str, ...] = SENTENCES
    decimals: int = 5
    """Of the minutes; 5 is 2 cm."""
    damage_percent: float = 0.0

    def epoch(self, number: int) -> bytes:
        """All sentences of one epoch; epochs are counted from 1970 at `rate_hz`. Empty while the receiver is dead."""
        utc_s, part = divmod(number, self.rate_hz)
        seen = self.vehicle.measure(utc_s)
        if seen is None:
            return b""
        time_ns = utc_s % 86_400 * 10**9 + part * 10**9 // self.rate_hz
        day = _EPOCH + timedelta(days=utc_s // 86_400)
        place = self._place(seen, utc_s, part) if seen.fixed else None
        lines = [write(one, self.decimals) for one in self._messages(seen, place, time_ns, day)]
        return b"".join(self._over_the_line(line, number, place_in) for place_in, line in enumerate(lines))

    def _place(self, seen: Measurement, utc_s: int, part: int) -> tuple[int, int]:
        """Between two seconds it moves as the vehicle does, and its error stays."""
        if not part or self.vehicle.trouble("frozen", utc_s):
            return seen.lat_e7, seen.lon_e7
        begin, now = self.vehicle.truth(utc_s), self.vehicle.truth(utc_s + part / self.rate_hz)
        return seen.lat_e7 + round(now.lat_e7 - begin.lat_e7), seen.lon_e7 + round(now.lon_e7 - begin.lon_e7)

    def _messages(self, seen: Measurement, place: tuple[int, int] | None, time_ns: int, day: date) -> list[Message]:
        lat_e7, lon_e7 = place or (None, None)
        is_fixed = place is not None
        speed_mm_s = round(seen.speed_kmh_e1 * 1000 / 36) if is_fixed else None
        course_cdeg = seen.course_deg * 100 if is_fixed and seen.speed_kmh_e1 else None
        mode = "A" if is_fixed else "N"
        sigma_mm = round(seen.sigma_m * 1000) if is_fixed else None
        found: list[Message] = []
        for kind in self.sentences:
            match kind:
                case "RMC":
                    found.append(
                        Rmc(
                            talker=self.talker, time_ns=time_ns, date=day, valid=is_fixed,
                            status="A" if is_fixed else "V", lat_e7=lat_e7, lon_e7=lon_e7, speed_mm_s=speed_mm_s,
                            course_cdeg=course_cdeg, mode=mode, nav_status="V",
                        )
                    )  # fmt: skip
                case "GGA":
                    found.append(
                        Gga(
                            talker=self.talker, time_ns=time_ns, valid=is_fixed, quality=int(is_fixed), lat_e7=lat_e7,
                            lon_e7=lon_e7, satellites=seen.satellites, hdop_e2=seen.hdop_e2,
                            alt_mm=seen.alt_m * 1000 if is_fixed else None, geoid_mm=_GEOID_MM if is_fixed else None,
                        )
                    )  # fmt: skip
                case "GSA" | "GSV":
                    found += self._sky(kind, seen)
                case "VTG":
                    found.append(
                        Vtg(
                            talker=self.talker,
                            valid=is_fixed,
                            course_cdeg=course_cdeg,
                            speed_mm_s=speed_mm_s,
                            mode=mode,
                        )
                    )
                case "ZDA":
                    found.append(Zda(talker=self.talker, time_ns=time_ns, date=day))
                case "GST":
                    found.append(
                        Gst(
                            talker=self.talker, time_ns=time_ns, rms_mm=sigma_mm, lat_mm=sigma_mm, lon_mm=sigma_mm,
                            alt_mm=None if sigma_mm is None else sigma_mm * 2,
                        )
                    )  # fmt: skip
        if seen.antenna_cut:
            found.append(Unknown(talker=self.talker, kind="TXT", fields=("01", "01", "02", "ANTSTATUS=OPEN")))
        return found

    def _sky(self, kind: str, seen: Measurement) -> list[Message]:
        """Satellites in use and in view, of each system."""
        systems = _SYSTEMS.get(self.talker) or (_OTHERS[self.talker],)
        found: list[Message] = []
        for number, (talker, system, added) in enumerate(systems):
            share = seen.satellites // len(systems) + (number < seen.satellites % len(systems))
            used = tuple(_satellite(seen.time_utc_s, added, place) for place in range(min(share, 12)))
            in_view = used + tuple(_satellite(seen.time_utc_s, added, 12 + place, heard=False) for place in range(2))
            if kind == "GSA":
                numbers = tuple(one.number for one in used)
                hdop = seen.hdop_e2
                found.append(
                    Gsa(
                        talker=self.talker, selection="A", dimension=3 if seen.fixed else 1, satellites=numbers,
                        pdop_e2=hdop * 17 // 10, hdop_e2=hdop, vdop_e2=hdop * 14 // 10, system=system,
                    )
                )  # fmt: skip
                continue
            parts = [in_view[at : at + 4] for at in range(0, len(in_view), 4)]
            found += [
                Gsv(talker=talker, total=len(parts), number=n + 1, in_view=len(in_view), satellites=part, signal=1)
                for n, part in enumerate(parts)
            ]
        return found

    def _over_the_line(self, line: bytes, number: int, place: int) -> bytes:
        """What arrives of a sentence: one in so many is damaged, with or without noise before it."""
        bits = bits_of(self.vehicle.seed, 70 + place, number)
        if bits % 100_000 >= self.damage_percent * 1000:
            return line
        noise = bytes(byte for byte in bits.to_bytes(8, "big") if byte not in b"$!\r\n") if bits >> 20 & 1 else b""
        return noise + damaged(line, bits)


def _satellite(utc_s: int, added: int, place: int, *, heard: bool = True) -> Satellite:
    """A sky that turns slowly; satellites in use stand high, others low and are not heard."""
    turn = utc_s // 120 % 360
    elevation = 15 + (place * 23 + added) % 70 if heard else 5 + place % 5
    return Satellite(
        1 + added + place * 2 % 32, elevation, (turn + place * 47) % 360, 30 + place % 14 if heard else None
    )


def damaged(line: bytes, bits: int) -> bytes:
    """A sentence with one bit changed, cut, or torn apart; never a good sentence."""
    for attempt in range(64):
        at = 1 + (bits >> 24 + attempt) % (len(line) - 6)
        broken = (
            line[:at] + b"\r\n"
            if (bits >> 22) + attempt & 1
            else line[:at] + bytes([line[at] ^ 1 << attempt % 7]) + line[at + 1 :]
        )
        if not any(isinstance(found, Sentence) for found in Decoder().feed(broken)):
            return broken
    return b"$\r\n"
