// Landlock (Linux 5.13): calls by number, and structures as landlock(7) lays them out, because the headers may be older
// than the kernel.
#pragma once
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

// The version of the kernel's Landlock, from 1, or -errno: ENOSYS where it was not built in, EOPNOTSUPP where it is
// off.
static inline int tdxd_landlock_version(void) {
    long version = syscall(444, NULL, 0, 1);
    return version >= 0 ? (int)version : -errno;
}

// A ruleset that handles these rights: a descriptor, or -errno. Kernels that do not know the later fields take them as
// zero.
static inline int tdxd_landlock_ruleset(uint64_t files, uint64_t network, uint64_t scopes) {
    struct { uint64_t files, network, scopes; } attributes = {files, network, scopes};
    long fd = syscall(444, &attributes, sizeof attributes, 0);
    return fd >= 0 ? (int)fd : -errno;
}

// Allows `rights` on what `place` (an O_PATH descriptor) is and on all beneath it. 0 or -errno.
static inline int tdxd_landlock_allow(int ruleset, int place, uint64_t rights) {
    struct __attribute__((packed)) { uint64_t rights; int32_t place; } rule = {rights, place};
    return syscall(445, ruleset, 1, &rule, 0) == 0 ? 0 : -errno;
}

// Puts the calling thread, and all that it starts from now on, under the ruleset. 0 or -errno.
static inline int tdxd_landlock_enter(int ruleset) { return syscall(446, ruleset, 0) == 0 ? 0 : -errno; }
