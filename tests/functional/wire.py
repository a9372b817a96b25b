"""The wire of docs/formats/ipc.md, written from that page alone: to speak to a daemon as somebody it should not trust."""

import socket
import struct
import zlib

# Bodies of an envelope.
HELLO, WELCOME, RESUME, BATCH, ACKNOWLEDGE, HEARTBEAT, REQUEST, CANCEL, REPLY = range(1, 10)
MAX_FRAME = 9_502_720


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(fields):
    """{number: int, bytes, or ("fixed64", int)} as protobuf."""
    out = b""
    for number, value in fields.items():
        if isinstance(value, bytes):
            out += varint(number << 3 | 2) + varint(len(value)) + value
        elif isinstance(value, tuple):
            out += varint(number << 3 | 1) + struct.pack("<q", value[1])
        else:
            out += varint(number << 3) + varint(value)
    return out


def parse(data):
    """The other way round; a field that repeats keeps its last value."""
    fields, at = {}, 0

    def take():
        nonlocal at
        value = shift = 0
        while True:
            value |= (data[at] & 0x7F) << shift
            at += 1
            if not data[at - 1] & 0x80:
                return value
            shift += 7

    while at < len(data):
        tag = take()
        if tag & 7 == 0:
            fields[tag >> 3] = take()
        elif tag & 7 == 1:
            fields[tag >> 3] = struct.unpack_from("<q", data, at)[0]
            at += 8
        else:
            length = take()
            fields[tag >> 3] = data[at:at + length]
            at += length
    return fields


def frame(sequence, payload):
    head = struct.pack("<IQ", len(payload), sequence)
    return head + struct.pack("<I", zlib.crc32(head + payload)) + payload


class Peer:
    """One end of a connection. `receive` gives (body, fields), or None when the other side has hung up."""

    def __init__(self, connected, seconds=30):
        self.socket = connected
        self.socket.settimeout(seconds)
        self.sequence = 0

    def send(self, body, fields):
        self.sequence += 1
        self.socket.sendall(frame(self.sequence, message({body: message(fields)})))

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            try:
                part = self.socket.recv(count - len(data))
            except ConnectionResetError:
                return None
            if not part:
                return None
            data += part
        return data

    def receive(self):
        head = self._exactly(16)
        if head is None:
            return None
        length, _, crc = struct.unpack("<IQI", head)
        payload = self._exactly(length)
        if payload is None:
            return None
        if zlib.crc32(head[:12] + payload) != crc:
            raise ValueError("a frame with a wrong checksum")
        ((body, content),) = parse(payload).items()
        return body, parse(content)

    def receive_a(self, *wanted):
        while True:
            got = self.receive()
            if got is None or got[0] in wanted:
                return got

    def close(self):
        self.socket.close()


def connect(path):
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(30)
    connected.connect(path)
    return Peer(connected)


def hello(source=b"host"):
    return {1: 1, 2: b"0", 3: source, 4: bytes(16), 5: ("fixed64", 1), 6: b"host"}
