// What stands between a VMM and the kernel: the library's own open, close, ioctl and so on, in C because ioctl and open
// are variadic and because nothing of Swift may run before the first KVM descriptor is seen.
#pragma once
#include <stdint.h>

// What Swift answers. Results are those of the kernel, failures −errno. TDXD_DOOR_PASS: the call is the kernel's.
#define TDXD_DOOR_PASS INT64_MIN

struct tdxd_door_calls {
    // A number that is an open /dev/kvm; 0 where the library has nothing to do with it.
    int (*opened)(int number);
    int64_t (*ioctl)(int number, uint32_t request, uintptr_t argument);
    int64_t (*fallocate)(int number, int mode, int64_t offset, int64_t length);
    // Before a close; what it returns is given to `closed` after it.
    void *(*closing)(int number);
    void (*closed)(void *token);
    void (*duplicated)(int number, int copy);
    // A descriptor to be mapped instead, −errno, or TDXD_DOOR_PASS.
    int64_t (*map)(int number);
    // The process ends.
    void (*ending)(void);
};

// Makes what answers; Swift's, called once when the first /dev/kvm is seen. Null: the library does nothing.
const struct tdxd_door_calls *tdxd_vmm_start(int number);

// The number is the library's from now on, or no more.
void tdxd_door_track(int number, int on);

// This thread's calls are the library's own from now on: they go to the kernel.
void tdxd_door_enter(void);
