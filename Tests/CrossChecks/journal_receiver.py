#!/usr/bin/env python3
"""Runs a program with a journal of its own and prints what the program sent it, as JSON: one object per record.

It plays journald by the documented native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL): a datagram socket at
/run/systemd/journal/socket in a mount namespace of its own, and a socket as the program's standard error that
JOURNAL_STREAM names. Usage: unshare --user --map-root-user --mount journal_receiver.py PROGRAM [ARGUMENT…]
"""
import json
import os
import socket
import struct
import subprocess
import sys


def parse(datagram):
    fields = []
    while datagram:
        head, _, rest = datagram.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if equals:
            datagram = rest
        else:
            (length,) = struct.unpack_from("<Q", rest)
            value, datagram = rest[8 : 8 + length], rest[8 + length + 1 :]
        fields.append([name.decode(), value.decode()])
    return fields


def main():
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    os.makedirs("/run/systemd/journal")
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    journal.bind("/run/systemd/journal/socket")
    journal.setblocking(False)
    ours, theirs = socket.socketpair()
    status = os.fstat(theirs.fileno())
    environment = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    subprocess.run(sys.argv[1:], env=environment, stderr=theirs, check=True)
    theirs.close()
    stray = ours.recv(65536)
    assert not stray, f"standard error got {stray!r}"
    while True:
        try:
            print(json.dumps(parse(journal.recv(1 << 20)), ensure_ascii=False))
        except BlockingIOError:
            break


main()
