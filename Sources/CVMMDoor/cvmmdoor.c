#define _GNU_SOURCE
#include "cvmmdoor.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <unistd.h>

// The functions below take the names of libc's. libc's own headers would give some of them other types (fortified,
// redirected), so none that declares one of them is used through its header's name but by a system call.
#define EXPORT __attribute__((visibility("default")))
#define KVM_MAJOR 10
#define KVM_MINOR 232
#define KVM_TYPE 0xAE
#define NUMBERS 65536

// One bit a descriptor that the library answers for. Numbers beyond it are the kernel's.
static _Atomic uint64_t tracked[NUMBERS / 64];
static _Atomic(const struct tdxd_door_calls *) calls;
// Set in a forked child, which has the library's memory and none of its threads.
static _Atomic int is_child;
static pthread_once_t once = PTHREAD_ONCE_INIT;
// The library's own calls on this thread. Initial-exec: reading it allocates nothing, wherever it is read.
static __thread int depth __attribute__((tls_model("initial-exec")));

static long result_of(int64_t result) {
    if (result < 0) {
        errno = (int)-result;
        return -1;
    }
    return (long)result;
}

static const struct tdxd_door_calls *active(void) {
    if (depth != 0 || atomic_load_explicit(&is_child, memory_order_relaxed)) return NULL;
    return atomic_load_explicit(&calls, memory_order_acquire);
}

static int is_tracked(int number) {
    return number >= 0 && number < NUMBERS
        && (atomic_load_explicit(&tracked[number / 64], memory_order_acquire) >> (number % 64) & 1);
}

void tdxd_door_track(int number, int on) {
    if (number < 0 || number >= NUMBERS) return;
    uint64_t bit = (uint64_t)1 << (number % 64);
    if (on)
        atomic_fetch_or(&tracked[number / 64], bit);
    else
        atomic_fetch_and(&tracked[number / 64], ~bit);
}

void tdxd_door_enter(void) { depth++; }

static void in_child(void) { atomic_store(&is_child, 1); }

static int first_number;
static void start(void) {
    pthread_atfork(NULL, NULL, in_child);
    atomic_store_explicit(&calls, tdxd_vmm_start(first_number), memory_order_release);
}

// A descriptor that was opened, or met in a request: /dev/kvm is known by its device number.
static void seen(int number) {
    if (depth != 0 || number >= NUMBERS || atomic_load_explicit(&is_child, memory_order_relaxed)) return;
    struct stat status;
    if (syscall(SYS_fstat, number, &status) != 0 || !S_ISCHR(status.st_mode)
        || status.st_rdev != makedev(KVM_MAJOR, KVM_MINOR))
        return;
    int saved = errno;
    depth++;
    first_number = number;
    pthread_once(&once, start);
    const struct tdxd_door_calls *to = atomic_load_explicit(&calls, memory_order_acquire);
    if (to != NULL) to->opened(number);
    depth--;
    errno = saved;
}

__attribute__((destructor)) static void ending(void) {
    const struct tdxd_door_calls *to = active();
    if (to == NULL) return;
    depth++;
    to->ending();
    depth--;
}

// ---- open ----------------------------------------------------------------------------------------------------------

static int open_at(int directory, const char *path, int flags, unsigned mode) {
    long number = syscall(SYS_openat, directory, path, flags, mode);
    if (number >= 0 && !(flags & O_PATH)) {
        int saved = errno;
        seen((int)number);
        errno = saved;
    }
    return (int)number;
}

#define MODE(flags)                                                \
    unsigned mode = 0;                                             \
    if ((flags) & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) {        \
        va_list list;                                              \
        va_start(list, flags);                                     \
        mode = va_arg(list, unsigned);                             \
        va_end(list);                                              \
    }

EXPORT int tdxd_open_door(const char *path, int flags, ...) __asm__("open");
EXPORT int tdxd_open_door(const char *path, int flags, ...) {
    MODE(flags)
    return open_at(AT_FDCWD, path, flags, mode);
}
EXPORT int tdxd_open64_door(const char *path, int flags, ...) __asm__("open64");
EXPORT int tdxd_open64_door(const char *path, int flags, ...) {
    MODE(flags)
    return open_at(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}
EXPORT int tdxd_openat_door(int directory, const char *path, int flags, ...) __asm__("openat");
EXPORT int tdxd_openat_door(int directory, const char *path, int flags, ...) {
    MODE(flags)
    return open_at(directory, path, flags, mode);
}
EXPORT int tdxd_openat64_door(int directory, const char *path, int flags, ...) __asm__("openat64");
EXPORT int tdxd_openat64_door(int directory, const char *path, int flags, ...) {
    MODE(flags)
    return open_at(directory, path, flags | O_LARGEFILE, mode);
}
// What _FORTIFY_SOURCE makes of the calls above.
EXPORT int tdxd_open_2_door(const char *path, int flags) __asm__("__open_2");
EXPORT int tdxd_open_2_door(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
EXPORT int tdxd_open64_2_door(const char *path, int flags) __asm__("__open64_2");
EXPORT int tdxd_open64_2_door(const char *path, int flags) {
    return open_at(AT_FDCWD, path, flags | O_LARGEFILE, 0);
}
EXPORT int tdxd_openat_2_door(int directory, const char *path, int flags) __asm__("__openat_2");
EXPORT int tdxd_openat_2_door(int directory, const char *path, int flags) { return open_at(directory, path, flags, 0); }
EXPORT int tdxd_openat64_2_door(int directory, const char *path, int flags) __asm__("__openat64_2");
EXPORT int tdxd_openat64_2_door(int directory, const char *path, int flags) {
    return open_at(directory, path, flags | O_LARGEFILE, 0);
}

// ---- close, dup ----------------------------------------------------------------------------------------------------

static int close_number(int number) {
    const struct tdxd_door_calls *to = is_tracked(number) ? active() : NULL;
    if (to == NULL) return (int)syscall(SYS_close, number);
    depth++;
    void *token = to->closing(number);
    long result = syscall(SYS_close, number);
    int saved = errno;
    if (token != NULL) to->closed(token);
    depth--;
    errno = saved;
    return (int)result;
}
EXPORT int tdxd_close_door(int number) __asm__("close");
EXPORT int tdxd_close_door(int number) { return close_number(number); }

static int duplicated(int number, int copy) {
    if (copy < 0 || (!is_tracked(number) && !is_tracked(copy))) return copy;
    const struct tdxd_door_calls *to = active();
    if (to == NULL) return copy;
    int saved = errno;
    depth++;
    to->duplicated(number, copy);
    depth--;
    errno = saved;
    return copy;
}
EXPORT int tdxd_dup_door(int number) __asm__("dup");
EXPORT int tdxd_dup_door(int number) { return duplicated(number, (int)syscall(SYS_dup, number)); }
EXPORT int tdxd_dup2_door(int number, int copy) __asm__("dup2");
EXPORT int tdxd_dup2_door(int number, int copy) { return duplicated(number, (int)syscall(SYS_dup2, number, copy)); }
EXPORT int tdxd_dup3_door(int number, int copy, int flags) __asm__("dup3");
EXPORT int tdxd_dup3_door(int number, int copy, int flags) {
    return duplicated(number, (int)syscall(SYS_dup3, number, copy, flags));
}

static int control(int number, int command, uintptr_t argument) {
    int result = (int)syscall(SYS_fcntl, number, command, argument);
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? duplicated(number, result) : result;
}
EXPORT int tdxd_fcntl_door(int number, int command, ...) __asm__("fcntl");
EXPORT int tdxd_fcntl_door(int number, int command, ...) {
    va_list list;
    va_start(list, command);
    uintptr_t argument = va_arg(list, uintptr_t);
    va_end(list);
    return control(number, command, argument);
}
EXPORT int tdxd_fcntl64_door(int number, int command, ...) __asm__("fcntl64");
EXPORT int tdxd_fcntl64_door(int number, int command, ...) {
    va_list list;
    va_start(list, command);
    uintptr_t argument = va_arg(list, uintptr_t);
    va_end(list);
    return control(number, command, argument);
}

// ---- ioctl ---------------------------------------------------------------------------------------------------------

EXPORT int tdxd_ioctl_door(int number, unsigned long request, ...) __asm__("ioctl");
EXPORT int tdxd_ioctl_door(int number, unsigned long request, ...) {
    va_list list;
    va_start(list, request);
    uintptr_t argument = va_arg(list, uintptr_t);
    va_end(list);
    // Where ioctl takes an int, a request arrives with its sign extended.
    uint32_t code = (uint32_t)request;
    if ((code >> 8 & 0xFF) == KVM_TYPE && depth == 0) {
        // A descriptor that came another way than by open.
        if (!is_tracked(number) && atomic_load_explicit(&is_child, memory_order_relaxed) == 0) seen(number);
        const struct tdxd_door_calls *to = is_tracked(number) ? active() : NULL;
        if (to != NULL) {
            int saved = errno;
            depth++;
            int64_t answer = to->ioctl(number, code, argument);
            depth--;
            errno = saved;
            if (answer != TDXD_DOOR_PASS) return (int)result_of(answer);
        }
    }
    return (int)syscall(SYS_ioctl, number, (unsigned long)code, argument);
}

// ---- memory --------------------------------------------------------------------------------------------------------

static int allocate(int number, int mode, off_t offset, off_t length) {
    const struct tdxd_door_calls *to = is_tracked(number) ? active() : NULL;
    if (to != NULL) {
        int saved = errno;
        depth++;
        int64_t answer = to->fallocate(number, mode, offset, length);
        depth--;
        errno = saved;
        if (answer != TDXD_DOOR_PASS) return (int)result_of(answer);
    }
    return (int)syscall(SYS_fallocate, number, mode, offset, length);
}
EXPORT int tdxd_fallocate_door(int number, int mode, off_t offset, off_t length) __asm__("fallocate");
EXPORT int tdxd_fallocate_door(int number, int mode, off_t offset, off_t length) {
    return allocate(number, mode, offset, length);
}
EXPORT int tdxd_fallocate64_door(int number, int mode, off_t offset, off_t length) __asm__("fallocate64");
EXPORT int tdxd_fallocate64_door(int number, int mode, off_t offset, off_t length) {
    return allocate(number, mode, offset, length);
}

static void *map(void *address, size_t size, int protection, int flags, int number, off_t offset) {
    const struct tdxd_door_calls *to = number >= 0 && is_tracked(number) ? active() : NULL;
    if (to != NULL) {
        int saved = errno;
        depth++;
        int64_t answer = to->map(number);
        depth--;
        errno = saved;
        if (answer != TDXD_DOOR_PASS) {
            if (answer < 0) return (void *)result_of(answer);
            number = (int)answer;
        }
    }
    return (void *)syscall(SYS_mmap, address, size, protection, flags, number, offset);
}
EXPORT void *tdxd_mmap_door(void *, size_t, int, int, int, off_t) __asm__("mmap");
EXPORT void *tdxd_mmap_door(void *address, size_t size, int protection, int flags, int number, off_t offset) {
    return map(address, size, protection, flags, number, offset);
}
EXPORT void *tdxd_mmap64_door(void *, size_t, int, int, int, off_t) __asm__("mmap64");
EXPORT void *tdxd_mmap64_door(void *address, size_t size, int protection, int flags, int number, off_t offset) {
    return map(address, size, protection, flags, number, offset);
}
