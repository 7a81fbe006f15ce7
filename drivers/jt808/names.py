"""Names of the bits and additional items of a location report (JT/T 808, message 0200; JT/T 1078-2016 for the
video items).

The tables of 2019 are supersets of the earlier ones, so one table serves all editions; (2019) marks what older
terminals send as reserved.
"""

from __future__ import annotations

from typing import Final

STATUS: Final = {
    0: "acc_on",
    1: "fixed",
    2: "south",
    3: "west",
    4: "out_of_service",
    5: "coordinates_encrypted",
    6: "forward_collision_warning",  # (2019)
    7: "lane_departure_warning",  # (2019)
    # 8 and 9 are a number, not flags: LOADS
    10: "fuel_line_cut",
    11: "circuit_cut",
    12: "doors_locked",
    13: "door1_open",  # front
    14: "door2_open",  # middle
    15: "door3_open",  # rear
    16: "door4_open",  # driver
    17: "door5_open",  # custom
    18: "gps_used",
    19: "beidou_used",
    20: "glonass_used",
    21: "galileo_used",
    22: "moving",  # (2019)
}
LOADS: Final = ("empty", "half", "reserved", "full")
"""Status bits 8-9."""
LOAD_SHIFT: Final = 8
LOAD_MASK: Final = 3 << LOAD_SHIFT

ALARMS: Final = {
    0: "sos",
    1: "overspeed",
    2: "fatigue",
    3: "danger",
    4: "gnss_fault",
    5: "antenna_cut",
    6: "antenna_short",
    7: "main_power_low",
    8: "main_power_lost",
    9: "display_fault",
    10: "tts_fault",
    11: "camera_fault",
    12: "ic_card_fault",
    13: "overspeed_warning",
    14: "fatigue_warning",
    15: "forbidden_driving",  # (2019)
    16: "tyre_pressure_warning",  # (2019)
    17: "right_turn_blind_zone",  # (2019)
    18: "daily_driving_limit",
    19: "parking_too_long",
    20: "area_in_out",
    21: "route_in_out",
    22: "section_time",
    23: "route_deviation",
    24: "vss_fault",
    25: "fuel_abnormal",
    26: "stolen",
    27: "illegal_ignition",
    28: "illegal_displacement",
    29: "collision",
    30: "rollover",
    31: "illegal_door_opening",  # (2013)
}
CLEARED_BY_REPLY: Final = frozenset(
    {
        "sos", "danger", "area_in_out", "route_in_out", "section_time", "illegal_ignition", "illegal_displacement",
        "illegal_door_opening",
    }
)  # fmt: skip
"""Alarms that the terminal clears when it is answered; the others stand until their cause ends."""

VEHICLE_SIGNALS: Final = {
    0: "low_beam",
    1: "high_beam",
    2: "right_turn",
    3: "left_turn",
    4: "brake",
    5: "reverse",
    6: "fog_lamp",
    7: "clearance_lamp",
    8: "horn",
    9: "air_conditioner",
    10: "neutral",
    11: "retarder",
    12: "abs",
    13: "heater",
    14: "clutch",
}
IO_STATES: Final = {0: "deep_sleep", 1: "sleep"}
VIDEO_ALARMS: Final = {
    0: "signal_lost",
    1: "covered",
    2: "storage_fault",
    3: "other_video_fault",
    4: "overcrowded",
    5: "abnormal_driving",
    6: "special_storage_limit",
}
ABNORMAL_DRIVING: Final = {0: "fatigue", 1: "phone_call", 2: "smoking"}

AREA_KINDS: Final = {0: "none", 1: "circle", 2: "rectangle", 3: "polygon", 4: "route"}
