#define _GNU_SOURCE
#include "clastwill.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { guard_size = 4096, stack_size = 32 << 10, filter_length = 16 };

struct tdxd_last_will {
    int32_t descriptor;  // the ioctl's, or −1; atomic
    int owner;           // a pidfd
    int record_fd;
    uint32_t request;
    uint32_t attempts;
    int argument_is_block;
    uint64_t argument[3];
    struct tdxd_last_will_record record;
    struct sock_filter filter[filter_length];
    struct sock_fprog program;
};

#if defined(__x86_64__)

// What the will itself executes: no guard to read by %fs, no sanitizer's bookkeeping.
#if defined(__clang__)
#define WILL __attribute__((no_stack_protector, disable_sanitizer_instrumentation))
#else
#define WILL __attribute__((optimize("no-stack-protector"), no_sanitize("address", "thread", "undefined")))
#endif

// A system call, −errno and all; errno itself is thread-local.
WILL static inline __attribute__((always_inline)) long call(long number, long a, long b, long c, long d) {
    long result;
    register long fourth __asm__("r10") = d;
    // Where a call takes a fifth argument, it is 0 here.
    register long fifth __asm__("r8") = 0;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth)
                     : "rcx", "r11", "memory");
    return result;
}

WILL static inline __attribute__((always_inline)) uint64_t now(void) {
    struct timespec t;
    call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&t, 0, 0);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

WILL static inline __attribute__((always_inline)) void make_ioctl(struct tdxd_last_will *w, int descriptor) {
    long argument = w->argument_is_block ? (long)w->argument : (long)w->argument[0];
    for (;;) {
        long result = call(SYS_ioctl, descriptor, (long)w->request, argument, 0);
        w->record.result = (int32_t)result;
        w->record.attempts++;
        if ((result != -EBUSY && result != -EINTR) || w->record.attempts >= w->attempts) break;
        struct timespec pause;
        pause.tv_sec = 0;
        pause.tv_nsec = 10000000;
        call(SYS_nanosleep, (long)&pause, 0, 0, 0);
    }
    if (w->argument_is_block) w->record.status = w->argument[2];
    w->record.done_ns = now();
    w->record.state = tdxd_last_will_acted;
}

WILL static int run(void *context) {
    struct tdxd_last_will *w = context;
    call(SYS_prctl, PR_SET_NAME, (long)"tdx-last-will", 0, 0);
    if (call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0) != 0
        || call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&w->program, 0) != 0)
        call(SYS_exit_group, 1, 0, 0, 0);
    struct pollfd entry;
    entry.fd = w->owner;
    entry.events = POLLIN;
    entry.revents = 0;
    for (;;) {
        long ready = call(SYS_poll, (long)&entry, 1, -1, 0);
        if (ready > 0) break;
        if (ready != -EINTR) call(SYS_exit_group, 2, 0, 0, 0);
    }
    // Every thread of the owner has ended: no thread runs on this memory, and none of its vCPUs is in KVM_RUN.
    w->record.noticed_ns = now();
    int descriptor = __atomic_load_n(&w->descriptor, __ATOMIC_ACQUIRE);
    if (descriptor >= 0)
        make_ioctl(w, descriptor);
    else
        w->record.state = tdxd_last_will_not_needed;
    call(SYS_pwrite64, w->record_fd, (long)&w->record, sizeof w->record, 0);
    call(SYS_exit_group, 0, 0, 0, 0);
    return 0;
}

// Seven calls, ioctl by its number, and death for anything else.
static void make_filter(struct tdxd_last_will *w) {
    const struct sock_filter filter[filter_length] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_poll, 10, 0),
        // A poll that was stopped and continued goes on by this one.
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_restart_syscall, 9, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_gettime, 8, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_nanosleep, 7, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pwrite64, 6, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 5, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        // The kernel looks at the lower half of a request alone; so does this.
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, w->request, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    memcpy(w->filter, filter, sizeof filter);
    w->program.len = filter_length;
    w->program.filter = w->filter;
}

static int write_record(struct tdxd_last_will *w) {
    ssize_t n = pwrite(w->record_fd, &w->record, sizeof w->record, 0);
    return n == (ssize_t)sizeof w->record ? 0 : n < 0 ? -errno : -EIO;
}

int tdxd_last_will_start(
    int record_fd, uint32_t request, const uint64_t *argument, int argument_is_block, uint32_t attempts,
    int is_rehearsal, struct tdxd_last_will **will) {
    size_t size = guard_size + stack_size + sizeof(struct tdxd_last_will);
    char *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (area == MAP_FAILED) return -errno;
    struct tdxd_last_will *w = (struct tdxd_last_will *)(area + guard_size + stack_size);
    w->descriptor = -1;
    w->record_fd = record_fd;
    w->request = request;
    w->attempts = attempts;
    w->argument_is_block = argument_is_block;
    memcpy(w->argument, argument, sizeof w->argument);
    memcpy(w->record.magic, "TDXDWILL", 8);
    w->record.version = 1;
    w->record.state = tdxd_last_will_standing_by;
    w->record.rehearsal = is_rehearsal != 0;
    make_filter(w);
    int result = 0;
    w->owner = (int)syscall(434, getpid(), 0);  // pidfd_open
    if (w->owner < 0 || mprotect(area, guard_size, PROT_NONE) != 0 || flock(record_fd, LOCK_EX | LOCK_NB) != 0)
        result = -errno;
    if (result == 0) result = write_record(w);
    if (result == 0) {
        // A signal's handler would be the owner's, in a process that must run none of the owner's code.
        sigset_t all, before;
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, &before);
        // No exit signal: the owner does not learn of the will's end, and has nothing to wait for.
        int pid = clone(run, area + guard_size + stack_size, CLONE_VM | CLONE_FILES, w);
        result = pid > 0 ? pid : -errno;
        sigprocmask(SIG_SETMASK, &before, NULL);
    }
    if (result < 0) {
        if (w->owner >= 0) close(w->owner);
        munmap(area, size);
        return result;
    }
    w->record.pid = result;
    *will = w;
    // Without the number the record still has all that matters.
    (void)write_record(w);
    return result;
}

int tdxd_last_will_aim(struct tdxd_last_will *w, int descriptor) {
    __atomic_store_n(&w->descriptor, descriptor, __ATOMIC_RELEASE);
    w->record.state = descriptor >= 0 ? tdxd_last_will_armed : tdxd_last_will_standing_by;
    return write_record(w);
}

#else

int tdxd_last_will_start(
    int record_fd, uint32_t request, const uint64_t *argument, int argument_is_block, uint32_t attempts,
    int is_rehearsal, struct tdxd_last_will **will) {
    return -ENOSYS;
}

int tdxd_last_will_aim(struct tdxd_last_will *will, int descriptor) { return -ENOSYS; }

#endif

int tdxd_last_will_lock_is_free(int record_fd) {
    if (flock(record_fd, LOCK_SH | LOCK_NB) != 0) return -errno;
    flock(record_fd, LOCK_UN);
    return 0;
}
