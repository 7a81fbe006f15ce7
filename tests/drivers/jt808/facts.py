"""Where the fields that the vectors' sources name are found in our messages."""

from collections.abc import Callable
from typing import Any

from drivers.jt808.codec import Area, Frame, Location, Point, SpeedRule, Version, Window

NOT_OURS = (
    (
        r"Version|Bodies|ParamList|BatchLocationType.*|PacketFragmented|type",
        "an object of the source, no field of the frame",
    ),
    (
        r"(?i)jt808_0x0200_0x.*",
        "items of vendors and of the two provincial standards: kept as bytes, profiles read them",
    ),
    (r"BasicLocationAttachData.Count|UnknownLocationAttachData.Count", "stated for a frame with a wrong check byte"),
    (r"attributes", "items of a province: kept as bytes"),
    (r"message|PassthroughType|USBMessage.*", "0900: the block is its vendor's"),
    (r"parameters|item\[.*", "values of provincial and video parameters: kept as bytes"),
    (
        (
            r"AudioOutputEnabled|OSD|RTS_.*|StreamStore_.*|AudioChannelTotal|A?VudioChannelTotal|AVChannel.*|NeedSetChannel.*|"
            r"SignalChannels.*|BeginMinute|Duration|StorageThresholds|AlarmShielding|NuclearLoadNumber|FatigueThreshold|"
            r"SleepWakeMode|TimerWake.*|WakeConditionType|ParamLength"
        ),
        "video parameters of JT/T 1078: kept as bytes",
    ),
    (r"ParameterCount", "the same bytes read as another message"),
    (r"Flag|P0x8300TextFlagDetails", "8300: the source leaves the byte 0 and splits it elsewhere"),
    (r"FaceMatchValue.Value|UID", "0702: behind the fields of the standard, kept in `tail`"),
    (r"TerminalParamDetails", "compared by the test of parameters below"),
)
"""Stated fields that are not compared, with the reason."""

RESULTS = {
    "enum JT808ICCardStatus.ic_card_into": 1,
    "enum JT808ICCardReadResult.read_card_failure_auth": 1,
    "enum JT808ICCardReadResult.ic_card_reading_succeeded": 0,
    "enum JT808EventItemCoding.regular_action": 1,
    "enum JT808MultimediaCodingFormat.JPEG": 0,
    "enum JT808MultimediaType.image": 0,
    "enum JT808SettingProperty.append_region": 1,
    "enum JT808PlatformResult.succeed": 0,
    "enum JT808TerminalRegisterResult.success": 0,
}
"""Enumerations of a source, as numbers of the standard."""

Fact = Callable[[Any, Frame], Any]


def moment(digits: str) -> str:
    """`yyyy-MM-dd hh:mm:ss` of twelve digits."""
    pairs = [digits[n : n + 2] for n in range(0, 12, 2)]
    return f"20{pairs[0]}-{pairs[1]}-{pairs[2]} {':'.join(pairs[3:])}"


def iso(digits: str) -> str:
    return moment(digits).replace(" ", "T")


def properties(frame: Frame) -> int:
    version = frame.version is Version.V2019
    return len(frame.body) | frame.encryption << 10 | (frame.total > 0) << 13 | version << 14 | frame.reserved << 15


def go_location(one: Location) -> dict[str, Any]:
    return {
        "AlarmSign": one.alarm_bits,
        "StatusSign": one.status_bits,
        "Latitude": one.lat_raw,
        "Longitude": one.lon_raw,
        "Altitude": one.altitude_raw,
        "Speed": one.speed_raw,
        "Direction": one.course_raw,
        "DateTime": moment(one.time_bcd),
    }


def java_rules(window: Window | None, speed: SpeedRule | None) -> dict[str, Any]:
    assert window
    assert speed
    times = {"startTime": iso(window.start_bcd), "endTime": iso(window.end_bcd)}
    return times | {"maxSpeed": speed.max_kmh, "duration": speed.duration_s}


def java_area(names: tuple[str, ...], area: Area, frame: Frame) -> dict[str, Any]:
    found = {"id": area.id, "attribute": area.attributes} | dict(zip(names, area.shape, strict=True))
    found |= java_rules(area.window, area.speed)
    if frame.version is Version.V2019:
        assert area.speed
        found |= {"nightMaxSpeed": area.speed.night_kmh, "name": area.name.text}
    return found


def java_point(point: Point) -> dict[str, Any]:
    assert point.speed
    assert point.times_s
    return {
        "id": point.id,
        "routeId": point.section_id,
        "latitude": point.lat_raw,
        "longitude": point.lon_raw,
        "width": point.width_m,
        "attribute": point.attributes,
        "upperLimit": point.times_s[0],
        "lowerLimit": point.times_s[1],
        "maxSpeed": point.speed.max_kmh,
        "duration": point.speed.duration_s,
        "nightMaxSpeed": point.speed.night_kmh,
    }


CIRCLE = ("latitude", "longitude", "radius")
RECTANGLE = ("latitudeUL", "longitudeUL", "latitudeLR", "longitudeLR")

HEADER: dict[str, Fact] = {
    "Header.MsgId": lambda m, f: f"0x{f.msg_id:04X}",
    "Header.MsgNum": lambda m, f: f.serial,
    "Header.TerminalPhoneNo": lambda m, f: f.identity,
    "Header.ProtocolVersion": lambda m, f: f.protocol,
    "Header.MessageBodyProperty.VersionFlag": lambda m, f: f.version is Version.V2019,
    "messageId": lambda m, f: f.msg_id,
    "properties": lambda m, f: properties(f),
    "protocolVersion": lambda m, f: f.protocol,
    "clientId": lambda m, f: f.phone,
    "serialNo": lambda m, f: f.serial,
    "verified": lambda m, f: True,
    "MsgID": lambda m, f: f"0x{f.msg_id:04x}",
    "BodyLength": lambda m, f: len(f.body),
    "PhoneNumber": lambda m, f: f.phone,
    "SerialNumber": lambda m, f: f.serial,
    "VersionSign": lambda m, f: f.protocol,
}


def item(location: Location, item_id: int) -> int:
    found = location.item(item_id)
    assert found
    return int.from_bytes(found.raw[:4], "big")


def paths(*pairs: tuple[str, str]) -> dict[str, Fact]:
    """Facts that are attributes: stated name, path in our message."""

    def fact(path: str) -> Fact:
        def follow(message: Any, _frame: Frame) -> Any:
            for name in path.split("."):
                message = message[int(name)] if name.isdecimal() else getattr(message, name)
            return message

        return follow

    return {name: fact(path) for name, path in pairs}


def location_facts(at: str, prefix: str = "") -> dict[str, Fact]:
    names = {
        "AlarmFlag": "alarm_bits",
        "StatusFlag": "status_bits",
        "Lng": "lon_raw",
        "Speed": "speed_raw",
        "Direction": "course_raw",
    }
    return paths(*((f"{prefix}{name}", f"{at}{path}") for name, path in names.items()))


def csharp_signed(raw: int) -> int:
    """The disputed vectors: two's complement where the standard has a magnitude."""
    return raw - (1 << 32) if raw >> 31 else raw


JAVA_LOCATION = (
    ("warnBit", "alarm_bits"),
    ("statusBit", "status_bits"),
    ("latitude", "lat_raw"),
    ("longitude", "lon_raw"),
    ("altitude", "altitude_raw"),
    ("speed", "speed_raw"),
    ("direction", "course_raw"),
)
VIDEO = "CustomLocationAttachData"
REGISTRATION = (
    (("AreaID", "ProvinceID", "provinceId"), "province"),
    (("CityOrCountyId", "CityID", "cityId"), "city"),
    (("MakerId", "ManufacturerID", "makerId"), "maker.text"),
    (("TerminalModel", "deviceModel"), "model.text"),
    (("TerminalId", "TerminalID", "deviceId"), "terminal_id.text"),
    (("PlateColor", "plateColor"), "plate_colour"),
    (("PlateNo", "PlateNo.TrimStart", "LicensePlateNumber", "plateNo"), "plate.text"),
)


def location() -> dict[str, Fact]:
    return (
        location_facts("")
        | paths(*JAVA_LOCATION)
        | {
            "Lat": lambda m, f: csharp_signed(m.lat_raw),
            "Lng": lambda m, f: csharp_signed(m.lon_raw),
            "GPSTime": lambda m, f: moment(m.time_bcd),
            "deviceTime": lambda m, f: iso(m.time_bcd),
            f"{VIDEO}[0x14].VideoRelateAlarm": lambda m, f: item(m, 0x14),
            f"{VIDEO}[0x15].VideoSignalLoseAlarmStatus": lambda m, f: item(m, 0x15),
            f"{VIDEO}[0x16].VideoSignalOcclusionAlarmStatus": lambda m, f: item(m, 0x16),
            f"{VIDEO}[0x17].StorageFaultAlarmStatus": lambda m, f: item(m, 0x17),
            f"{VIDEO}[0x18].AbnormalDrivingBehaviorAlarmType": lambda m, f: item(m, 0x18) >> 8,
            f"{VIDEO}[0x18].FatigueLevel": lambda m, f: m.item(0x18).value["fatigue_percent"],
        }
    )


def location_answer() -> dict[str, Fact]:
    return paths(
        ("responseSerialNo", "reply_serial"),
        ("RespondSerialNumber", "reply_serial"),
        *((name, f"location.{path}") for name, path in JAVA_LOCATION),
    ) | {
        "deviceTime": lambda m, f: iso(m.location.time_bcd),
        "T0x0200LocationItem": lambda m, f: go_location(m.location) | {"AlarmSignDetails": [], "StatusSignDetails": []},
    }


def location_batch() -> dict[str, Fact]:
    found = paths(("Count", "count"), ("Num", "count"), ("LocationType", "kind"))
    found["Items"] = lambda m, f: [
        {"Len": len(one.raw), "T0x0200LocationItem": go_location(one.location)} for one in m.entries
    ]
    for n in range(2):
        at = f"Positions[{n}]."
        found |= location_facts(f"locations.{n}.", at) | paths((f"{at}Lat", f"locations.{n}.lat_raw"))
        found[f"{at}GPSTime"] = lambda m, f, n=n: moment(m.locations[n].time_bcd)
        found[f"{at}BasicLocationAttachData[0x01].Mileage"] = lambda m, f, n=n: m.locations[n].item(1).value
        found[f"{at}BasicLocationAttachData[0x02].Oil"] = lambda m, f, n=n: m.locations[n].item(2).value
    return found


def registration() -> dict[str, Fact]:
    plain = paths(*((name, path) for names, path in REGISTRATION for name in names))
    zeros = {
        "MakerId.TrimStart'0'": lambda m, f: m.maker.text.lstrip("0"),
        "TerminalId.TrimStart'0'": lambda m, f: m.terminal_id.text.lstrip("0"),
        "TerminalModel.TrimStart'0'": lambda m, f: m.model.text.lstrip("0"),
    }
    return plain | zeros


def authentication() -> dict[str, Fact]:
    return paths(("Code", "code.text"))


def parameter_answer() -> dict[str, Fact]:
    return paths(
        *((name, "reply_serial") for name in ("MsgNum", "responseSerialNo", "RespondSerialNumber")),
        ("ParamId", "parameters.1.id"),
        ("ParamValue", "parameters.1.value"),
    ) | {
        "AnswerParamsCount": lambda m, f: len(m.parameters),
        "RespondParamCount": lambda m, f: len(m.parameters),
    }


def set_parameters() -> dict[str, Fact]:
    return paths(("ParamId", "parameters.1.id"), ("ParamValue", "parameters.1.value"))


def driver_report() -> dict[str, Fact]:
    return paths(
        *((name, "status") for name in ("IC_Card_Status", "status")),
        *((name, "result") for name in ("IC_Card_ReadResult", "cardStatus")),
        *((name, "driver.name.text") for name in ("DriverUserName", "name")),
        *((name, "driver.licence.text") for name in ("QualificationCode", "licenseNo")),
        *((name, "driver.issuer.text") for name in ("LicenseIssuing", "institution")),
        ("licenseValidPeriod", "driver.valid_until"),
        ("dateTime", "time_bcd"),
        ("DriverIdentityCard", "driver.id_number.text"),
    ) | {
        "IC_Card_PlugDateTime": lambda m, f: moment(m.time_bcd),
        "CertificateExpiresDate": lambda m, f: moment(m.driver.valid_until[2:] + "000000").split()[0],
    }


def media_event() -> dict[str, Fact]:
    return paths(
        *((name, "media_id") for name in ("MultimediaID", "id")),
        *((name, "kind") for name in ("MultimediaType", "type")),
        *((name, "format") for name in ("MultimediaFormatEncode", "format")),
        *((name, "event") for name in ("EventItemEncode", "event")),
        *((name, "channel") for name in ("ChannelID", "channelId")),
    )


def media() -> dict[str, Fact]:
    return paths(
        *((name, "event.media_id") for name in ("MultimediaId", "entity.getMultimediaDataID()")),
        *((name, "event.kind") for name in ("MultimediaType", "entity.getMultimediaType()")),
        *((name, "event.format") for name in ("MultimediaCodingFormat", "entity.getMultimediaFormatCode()")),
        *((name, "event.event") for name in ("EventItemCoding", "entity.getEventItemCode()")),
        *((name, "event.channel") for name in ("ChannelId", "entity.getChannelId()")),
        ("location.getAlarmFlag()", "location.alarm_bits"),
        ("location.getStatus()", "location.status_bits"),
        ("location.getHeight()", "location.altitude_raw"),
        ("location.getSpeed()", "location.speed_raw"),
        ("location.getDirection()", "location.course_raw"),
        ("location.getTime()", "location.time_bcd"),
    )


def general_reply() -> dict[str, Fact]:
    return paths(
        *((name, "reply_serial") for name in ("MsgNum", "RespondSerialNumber")),
        *((name, "result") for name in ("JT808PlatformResult", "Result")),
        ("RespondID", "reply_id"),
    ) | {"AckMsgId": lambda m, f: f"0x{m.reply_id:04X}"}


def registration_reply() -> dict[str, Fact]:
    return paths(
        *((name, "reply_serial") for name in ("AckMsgNum", "RespondSerialNumber", "responseSerialNo")),
        *((name, "result") for name in ("JT808TerminalRegisterResult", "Result", "resultCode")),
        *((name, "code.text") for name in ("Code", "AuthCode", "token")),
    )


def resend_request() -> dict[str, Fact]:
    return paths(("OriginalMsgNum", "first_serial"), ("responseSerialNo", "first_serial")) | {
        "AgainPackageCount": lambda m, f: len(m.parts),
        "id": lambda m, f: list(m.parts),
    }


def track() -> dict[str, Fact]:
    return paths(
        *((name, "interval_s") for name in ("TimeInterval", "interval")),
        *((name, "validity_s") for name in ("TrackValidity", "validityPeriod")),
    )


def driver_text() -> dict[str, Fact]:
    return paths(("TextFlag", "flags"), ("sign", "flags"), *((n, "text.text") for n in ("TextInfo", "Text", "content")))


def media_reply() -> dict[str, Fact]:
    return paths(*((name, "media_id") for name in ("MultimediaId", "MultimediaID", "mediaId"))) | {
        "RetransmitPackageCount": lambda m, f: len(m.parts or ()),
        "RetransmitPackageIds": lambda m, f: m.parts or None,
        "AgainPackageCount": lambda m, f: len(m.parts),
        "AgainPackageList": lambda m, f: list(m.parts),
        "id": lambda m, f: list(m.parts),
    }


def shoot() -> dict[str, Fact]:
    return paths(
        ("ChannelId", "channel"),
        ("ShootingCommand", "command"),
        ("VideoTime", "interval_s"),
        ("SaveFlag", "save"),
        ("Resolution", "resolution"),
        ("VideoQuality", "quality"),
        ("Lighting", "brightness"),
        ("Contrast", "contrast"),
        ("Saturability", "saturation"),
        ("Chroma", "chroma"),
    )


def set_circles() -> dict[str, Fact]:
    return paths(
        *((name, "action") for name in ("action", "SettingAreaProperty")),
        ("item0.AreaId", "areas.0.id"),
        ("item0.AreaProperty", "areas.0.attributes"),
        ("item0.CenterPointLat", "areas.0.shape.0"),
        ("item0.CenterPointLng", "areas.0.shape.1"),
        ("item0.Radius", "areas.0.shape.2"),
        ("item0.StartTime", "areas.0.window"),
        ("item0.EndTime", "areas.0.window"),
        ("item0.HighestSpeed", "areas.0.speed.max_kmh"),
        ("item0.OverspeedDuration", "areas.0.speed.duration_s"),
        ("item0.NightMaximumSpeed", "areas.0.speed.night_kmh"),
        ("item0.AreaName", "areas.0.name.text"),
    ) | {
        "AreaCount": lambda m, f: len(m.areas),
        "items": lambda m, f: [java_area(CIRCLE, area, f) for area in m.areas],
    }


def set_rectangles() -> dict[str, Fact]:
    return paths(("action", "action")) | {"items": lambda m, f: [java_area(RECTANGLE, area, f) for area in m.areas]}


def set_polygon() -> dict[str, Fact]:
    return (
        paths(("id", "id"), ("attribute", "attributes"))
        | {
            name: lambda m, f, name=name: java_rules(m.window, m.speed)[name]
            for name in ("startTime", "endTime", "maxSpeed", "duration")
        }
        | {"points": lambda m, f: [{"latitude": lat, "longitude": lon} for lat, lon in m.vertices]}
    )


def set_route() -> dict[str, Fact]:
    found = paths(
        *((name, "id") for name in ("id", "RouteId")),
        *((name, "attributes") for name in ("attribute", "RouteProperty")),
        *((name, "name.text") for name in ("name", "RouteName")),
    )
    found["startTime"] = lambda m, f: iso(m.window.start_bcd)
    found["endTime"] = lambda m, f: iso(m.window.end_bcd)
    found["StartTime"] = lambda m, f: m.window and moment(m.window.start_bcd)
    found["EndTime"] = lambda m, f: m.window and moment(m.window.end_bcd)
    found["items"] = lambda m, f: [java_point(point) for point in m.points]
    found["InflectionPointItems.Count"] = lambda m, f: len(m.points)
    for n in range(2):
        at = f"InflectionPointItems[{n}]."
        found |= paths(
            (f"{at}InflectionPointId", f"points.{n}.id"),
            (f"{at}InflectionPointLat", f"points.{n}.lat_raw"),
            (f"{at}InflectionPointLng", f"points.{n}.lon_raw"),
            (f"{at}SectionId", f"points.{n}.section_id"),
            (f"{at}SectionProperty", f"points.{n}.attributes"),
            (f"{at}SectionWidth", f"points.{n}.width_m"),
            (f"{at}SectionOverspeedDuration", f"points.{n}.speed.duration_s"),
            (f"{at}NightMaximumSpeed.Value", f"points.{n}.speed.night_kmh"),
        )
        found[f"{at}SectionHighestSpeed"] = lambda m, f, n=n: m.points[n].speed and m.points[n].speed.max_kmh
        found[f"{at}SectionLongDrivingThreshold"] = lambda m, f, n=n: m.points[n].times_s and m.points[n].times_s[0]
        found[f"{at}SectionDrivingUnderThreshold"] = lambda m, f, n=n: m.points[n].times_s and m.points[n].times_s[1]
    return found


def delete() -> dict[str, Fact]:
    return {"AreaCount": lambda m, f: len(m.ids)} | paths(*((f"AreaIds[{n}]", f"ids.{n}") for n in range(3)))


OURS: dict[str, dict[str, Fact]] = {
    "Location": location(),
    "LocationAnswer": location_answer(),
    "LocationBatch": location_batch(),
    "Registration": registration(),
    "Authentication": authentication(),
    "ParameterAnswer": parameter_answer(),
    "SetParameters": set_parameters(),
    "DriverReport": driver_report(),
    "MediaEvent": media_event(),
    "Media": media(),
    "GeneralReply": general_reply(),
    "RegistrationReply": registration_reply(),
    "ResendRequest": resend_request(),
    "Track": track(),
    "DriverText": driver_text(),
    "MediaReply": media_reply(),
    "Shoot": shoot(),
    "SetCircles": set_circles(),
    "SetRectangles": set_rectangles(),
    "SetPolygon": set_polygon(),
    "SetRoute": set_route(),
    "DeleteCircles": delete(),
    "DeleteRectangles": delete(),
    "Heartbeat": {},
    "LogOff": {},
    "Transparent": {},
}
FACTS: dict[tuple[str, str], Fact] = {
    (kind, name): fact for kind, facts in OURS.items() for name, fact in (HEADER | facts).items()
}
"""(Our class, the source's name) → what we read."""

TEXTS_ONLY: dict[str, dict[str, Callable[[Any], Any]]] = {
    "Registration": {
        "省域ID": lambda m: m.province,
        "市县域ID": lambda m: m.city,
        r"制造商ID\(\d+\)": lambda m: m.maker,
        r"终端型号\(\d+\)": lambda m: m.model,
        r"终端ID\(\d+\)": lambda m: m.terminal_id,
        "车牌颜色": lambda m: m.plate_colour,
        "车牌号": lambda m: m.plate,
    },
    "Authentication": {"鉴权码": lambda m: m.code},
    "LocationBatch": {
        "数据项个数": lambda m: m.count,
        "位置汇报类型": lambda m: m.kind,
        "纬度": lambda m: m.locations[0].lat_raw,
        "经度#3": lambda m: m.locations[1].lon_raw,
        "时间": lambda m: moment(m.locations[0].time_bcd),
    },
    "GeneralReply": {
        "应答消息流水号": lambda m: m.reply_serial,
        "应答消息ID": lambda m: m.reply_id,
        "结果": lambda m: m.result,
    },
    "RegistrationReply": {
        "应答流水号": lambda m: m.reply_serial,
        "结果": lambda m: m.result,
        "鉴权码": lambda m: m.code,
    },
}
"""Labels of go-jt808's annotated frames."""
