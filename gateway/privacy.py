"""Which device classes are private: an officer's track is evidence of the process, shown only to roles that may see it.

The classes are those of the devices files (DEVICES.md); where two files disagree, the stricter counts. A class that no
file names any more is private, so that a file with a mistake in it opens nothing; receivers and sensors that the
configuration itself names are open, and so are monitors in quarantine: they belong to a site, not to a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from gateway.config import Config
from gateway.config_sources import (
    Hj212Config,
    Hj212SerialConfig,
    Jt808Config,
    ModbusSerialConfig,
    ModbusTcpConfig,
    NmeaListenConfig,
    NmeaSerialConfig,
    NmeaTcpConfig,
    StationFolderConfig,
    StationHttpConfig,
)
from gateway.core.errors import ConfigError
from gateway.devices import UNLISTED, Protocol, Watched

Privacy = Literal["open", "process"]


class Privacies:
    """Class -> privacy, from files that may change while the gateway runs."""

    def __init__(self, config: Config) -> None:
        """Blocks on the disk. Raises nothing: a file that cannot be read makes its classes private."""
        receivers = (NmeaSerialConfig, NmeaTcpConfig, NmeaListenConfig)
        self._own = {source.device_class for source in config.source if isinstance(source, receivers)}
        buses = (ModbusSerialConfig, ModbusTcpConfig)
        for source in config.source:
            self._own |= {one.device_class for one in source.devices} if isinstance(source, buses) else set()
        self._files: set[tuple[str, Protocol]] = set()
        for source in config.source:
            if isinstance(source, Jt808Config):
                self._files.add((source.devices_file, "jt808"))
            elif isinstance(source, Hj212Config | Hj212SerialConfig):
                self._files.add((source.devices_file, "hj212"))
                self._own.add(UNLISTED)
        self._has_stations = any(
            isinstance(source, StationFolderConfig | StationHttpConfig) for source in config.source
        )
        self._is_unsure = False
        self._profile_dirs: Sequence[str] = config.profile_dirs
        self._watched: dict[tuple[str, Protocol], Watched] = {}
        self._known: dict[str, Privacy] = {}
        self.refresh()

    def of(self, device_class: str) -> Privacy:
        """Privacy of a class; "" (nobody said) is private."""
        return self._known.get(device_class, "process")

    @property
    def any_private(self) -> bool:
        """Whether anything private can be in the store: a private class, recordings of officers' stations, or a devices
        file that cannot be read. A class that was private and was taken out of its file is not noticed."""
        return self._has_stations or self._is_unsure or "process" in self._known.values()

    def refresh(self) -> None:
        """Look at the files again. Blocks on the disk."""
        known: dict[str, Privacy] = dict.fromkeys(self._own, "open")
        is_unsure = False
        for name, protocol in sorted(self._files):
            try:
                watched = self._watched.get((name, protocol)) or Watched(name, self._profile_dirs, protocol)
            except ConfigError:
                is_unsure = True
                continue
            self._watched[name, protocol] = watched
            watched.refresh()
            for device_class in watched.current.classes.values():
                strictest = "process" in (device_class.privacy, known.get(device_class.id))
                known[device_class.id] = "process" if strictest else "open"
        self._known, self._is_unsure = known, is_unsure
