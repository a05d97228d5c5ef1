#!/usr/bin/env python3
"""A program with a VM: stand-in-vmm.py [--user UID] [--guest-memory BYTES] [--resident BYTES] [-name NAME]

Makes a VM, and a guest_memfd where asked, prints "ready", and ends when its standard input does. With --refused it prints why
there is none and ends with status 77.
"""
import ctypes, fcntl, os, struct, sys

KVM_CREATE_VM = 0xAE01
KVM_CREATE_GUEST_MEMFD = 0xC040AED4


def option(name, kind=int):
    return kind(sys.argv[sys.argv.index(name) + 1]) if name in sys.argv else None


try:
    system = os.open("/dev/kvm", os.O_RDWR)
    user = option("--user")
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    vm = fcntl.ioctl(system, KVM_CREATE_VM, 0)
    size = option("--guest-memory")
    if size:
        for flags in (0, 3):
            request = bytearray(struct.pack("<QQ48x", size, flags))
            try:
                memory = fcntl.ioctl(vm, KVM_CREATE_GUEST_MEMFD, request)
                break
            except OSError as error:
                failure = error
        else:
            raise failure
        if resident := option("--resident"):
            if ctypes.CDLL(None).fallocate(memory, 1, ctypes.c_long(0), ctypes.c_long(resident)) != 0:
                raise OSError("fallocate")
except OSError as error:
    print("refused", error, flush=True)
    sys.exit(77)
print("ready", flush=True)
sys.stdin.read()
