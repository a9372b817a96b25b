"""Chunks of docs/formats/store.md, written from that page: to alter what a store holds so that its checksums are right."""

import struct

_MASK = 2**64 - 1
_P1, _P2, _P3, _P4, _P5 = (11400714785074694791, 14029467366897019727, 1609587929392839161, 9650029242287828579,
                           2870177450012600261)


def _rotate(value, count):
    return (value << count | value >> (64 - count)) & _MASK


def _round(lane, value):
    return _rotate((lane + value * _P2) & _MASK, 31) * _P1 & _MASK


def xxh64(data, seed):
    """As https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md has it."""
    at = 0
    if len(data) >= 32:
        lanes = [(seed + _P1 + _P2) & _MASK, (seed + _P2) & _MASK, seed, (seed - _P1) & _MASK]
        while at + 32 <= len(data):
            for i, value in enumerate(struct.unpack_from("<4Q", data, at)):
                lanes[i] = _round(lanes[i], value)
            at += 32
        value = sum(_rotate(lane, count) for lane, count in zip(lanes, (1, 7, 12, 18))) & _MASK
        for lane in lanes:
            value = ((value ^ _round(0, lane)) * _P1 + _P4) & _MASK
    else:
        value = (seed + _P5) & _MASK
    value = (value + len(data)) & _MASK
    while at + 8 <= len(data):
        value = (_rotate(value ^ _round(0, struct.unpack_from("<Q", data, at)[0]), 27) * _P1 + _P4) & _MASK
        at += 8
    if at + 4 <= len(data):
        value = (_rotate(value ^ struct.unpack_from("<I", data, at)[0] * _P1 & _MASK, 23) * _P2 + _P3) & _MASK
        at += 4
    for byte in data[at:]:
        value = _rotate(value ^ byte * _P5 & _MASK, 11) * _P1 & _MASK
    value = (value ^ value >> 33) * _P2 & _MASK
    value = (value ^ value >> 29) * _P3 & _MASK
    return value ^ value >> 32


def lz4_block(data):
    """Decompressed."""
    out, at = bytearray(), 0

    def length(start):
        nonlocal at
        total = start
        if start == 15:
            while True:
                total += data[at]
                at += 1
                if data[at - 1] != 255:
                    break
        return total

    while at < len(data):
        token = data[at]
        at += 1
        literals = length(token >> 4)
        out += data[at:at + literals]
        at += literals
        if at >= len(data):
            break
        offset = struct.unpack_from("<H", data, at)[0]
        at += 2
        for _ in range(length(token & 15) + 4):
            out.append(out[-offset])
    return bytes(out)


def unpack(chunk, chunk_id):
    """The body, after its checksum was looked at."""
    codec, size, checksum = struct.unpack_from("<BIQ", chunk)
    if xxh64(chunk[13:], chunk_id ^ size << 32) != checksum:
        raise ValueError("the checksum is wrong, here or in store_file.py")
    return lz4_block(chunk[13:]) if codec == 1 else chunk[13:]


def pack(body, chunk_id):
    return struct.pack("<BIQ", 0, len(body), xxh64(body, chunk_id ^ len(body) << 32)) + body
