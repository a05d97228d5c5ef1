#!/usr/bin/env python3
"""Computes the MRTD that a TDVF image gives a TD, and prints it as 96 hexadecimal digits.

Written from the TDVF design guide and the TDX module specification alone, to check the Swift code against: it shares no
line with it. Usage: tdvf_mrtd.py IMAGE
"""
import hashlib
import struct
import sys
import uuid

FOOTER = uuid.UUID("96b582de-1fb2-45f7-baea-a366c55a082d").bytes_le
ENTRY = uuid.UUID("e47a6535-984a-4798-865e-4685a7bf8ec2").bytes_le


def find_metadata(image):
    end = len(image) - 32
    if image[end - 16 : end] == FOOTER:
        (total,) = struct.unpack_from("<H", image, end - 18)
        position = end - 18
        while position > end - total:
            (length,) = struct.unpack_from("<H", image, position - 18)
            if image[position - 16 : position] == ENTRY:
                return len(image) - struct.unpack_from("<I", image, position - length)[0]
            position -= length
    return struct.unpack_from("<I", image, end)[0]


def main():
    with open(sys.argv[1], "rb") as file:
        image = file.read()
    offset = find_metadata(image)
    magic, _, version, count = struct.unpack_from("<4sIII", image, offset)
    assert magic == b"TDVF" and version == 1
    digest = hashlib.sha384()
    for index in range(count):
        start, raw, gpa, size, kind, attributes = struct.unpack_from("<IIQQII", image, offset + 16 + 32 * index)
        if attributes & 2:
            continue
        contents = image[start : start + raw].ljust(size, b"\0")
        assert not (attributes & 1 and kind == 2), "a measured hand-off block depends on the guest's memory"
        for page in range(0, size, 4096):
            digest.update(struct.pack("<16sQ104x", b"MEM.PAGE.ADD", gpa + page))
            if attributes & 1:
                for chunk in range(page, page + 4096, 256):
                    digest.update(struct.pack("<16sQ104x", b"MR.EXTEND", gpa + chunk))
                    digest.update(contents[chunk : chunk + 256])
    print(digest.hexdigest())


main()
