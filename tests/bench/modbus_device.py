"""A Modbus device at the end of a pty, in its own process: `python -m tests.bench.modbus_device BAUD LATE_S EVERY`.

It prints the port to open. Bytes take as long as they would at BAUD: a question has arrived when its last character
would have, 3.5 characters later the device answers, character by character. With EVERY above 0 every EVERY-th answer
begins LATE_S later; questions that come meanwhile wait, as they do in a device with a buffer.
"""

from __future__ import annotations

import os
import sys
import time
import tty
from contextlib import suppress

from drivers.modbus.codec import parse_request, request_frame_bytes, rtu_frame
from drivers.modbus.framing import serial_wire
from tests.drivers.modbus.line import replied


def main(baud: int, late_s: float, every: int) -> None:
    """Answer for ever."""
    master, slave = os.openpty()
    tty.setraw(slave)
    print(os.ttyname(slave), flush=True)
    wire = serial_wire(baud)
    char_s, gap_s = wire.char_ns / 1e9, wire.gap_ns / 1e9
    held, number = b"", 0
    while True:
        chunk = os.read(master, 4096)
        came_s = time.monotonic()
        held += chunk
        while (size := request_frame_bytes(held)) and len(held) >= size:
            frame, held = held[:size], held[size:]
            request = parse_request(frame[1:-2])
            if request is None:
                continue
            number += 1
            begin_s = came_s + len(frame) * char_s + gap_s
            if every and number % every == 0:
                begin_s += late_s
            answer = rtu_frame(frame[0], replied(frame[0], request))
            for index in range(len(answer)):
                _sleep_until(begin_s + (index + 1) * char_s)
                os.write(master, answer[index : index + 1])
            came_s = time.monotonic()


def _sleep_until(at_s: float) -> None:
    left_s = at_s - time.monotonic()
    if left_s > 0:
        time.sleep(left_s)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt, BrokenPipeError):
        main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
