// A last will: a process that shares its owner's address space and outlives it, to make one ioctl.
//
// KVM lets only the address space that created a VM call it. Whoever kills the owner therefore leaves a VM that no
// process can terminate, unless a second process has the same address space: clone(2) with CLONE_VM and without
// CLONE_THREAD, and so neither the owner's exit nor a SIGKILL for it ends it. It waits on a pidfd of the owner, makes
// its one ioctl, writes down what came of it, and is gone.
//
// It runs on the owner's memory while the owner's locks, allocator and thread-local storage are in no known state. So
// it has a stack of its own, makes raw system calls, reads nothing by way of %fs (not even errno or a stack guard),
// takes no signal, and calls no function of the C library or of Swift's runtime. A seccomp filter of its own keeps it
// to seven calls.
#pragma once
#include <stdint.h>

// States of a record.
enum {
    tdxd_last_will_standing_by = 1,  // there is nothing to do yet, or no longer
    tdxd_last_will_armed = 2,        // there is, if the owner dies
    tdxd_last_will_acted = 3,        // the owner died, and the ioctl was made
    tdxd_last_will_not_needed = 4,   // the owner died while there was nothing to do
};

// The file for others to read, from its first byte. While the owner or the will lives, the file has an exclusive
// flock(2).
struct tdxd_last_will_record {
    uint8_t magic[8];    // "TDXDWILL"
    uint32_t version;    // 1
    uint32_t state;
    int32_t pid;         // the will's
    int32_t result;      // of the last attempt: 0 or more, or −errno
    uint32_t attempts;
    uint32_t rehearsal;  // 1: the ioctl is a harmless stand-in
    uint64_t noticed_ns; // CLOCK_MONOTONIC, when the owner was seen to be dead
    uint64_t done_ns;    // when the last attempt returned
    uint64_t status;     // the argument's third word after the ioctl
    uint64_t reserved;
};

struct tdxd_last_will;

// Starts a will that stands by. Takes over `record_fd`, which stays open as long as the owner or the will lives; the
// descriptor table is shared.
//
// The ioctl is `request` with a pointer to the three words of `argument`, or with the first word itself where
// `argument_is_block` is 0. EBUSY is answered by another try 10 ms later, `attempts` tries in all.
//
// Returns the will's process number, or −errno; then nothing was started and `record_fd` is still the caller's.
int tdxd_last_will_start(
    int record_fd, uint32_t request, const uint64_t *argument, int argument_is_block, uint32_t attempts,
    int is_rehearsal, struct tdxd_last_will **will);

// From now on the ioctl is for this descriptor; −1 for none. Writes the record. 0 or −errno of the write.
int tdxd_last_will_aim(struct tdxd_last_will *will, int descriptor);

// A file's lock, without waiting: 0 when it was to be had (and is given back at once), −EWOULDBLOCK while a process
// holds it, or another −errno.
int tdxd_last_will_lock_is_free(int record_fd);
