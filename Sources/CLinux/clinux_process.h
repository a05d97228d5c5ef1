// Processes, signals, clocks, kernel events.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// ---- identity ----------------------------------------------------------------------------------------------------

static inline int32_t tdxd_gettid(void) { return (int32_t)syscall(SYS_gettid); }
static inline int32_t tdxd_getpid(void) { return (int32_t)getpid(); }
static inline int32_t tdxd_getppid(void) { return (int32_t)getppid(); }
static inline uint32_t tdxd_geteuid(void) { return geteuid(); }

static inline int tdxd_tgkill(int32_t pid, int32_t tid, int signal) {
    return syscall(SYS_tgkill, pid, tid, signal) == 0 ? 0 : -errno;
}

static inline int tdxd_kill(int32_t pid, int signal) { return kill(pid, signal) == 0 ? 0 : -errno; }

// Any system call, for checking what a filter makes of it.
static inline long tdxd_raw_call(long number, long a, long b, long c) {
    long result = syscall(number, a, b, c);
    return result >= 0 ? result : -errno;
}

// CPUID of the processor that this runs on: EAX, EBX, ECX, EDX.
static inline void tdxd_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t words[4]) {
    __asm__ volatile("cpuid"
                     : "=a"(words[0]), "=b"(words[1]), "=c"(words[2]), "=d"(words[3])
                     : "a"(leaf), "c"(subleaf));
}

// ---- pidfd -------------------------------------------------------------------------------------------------------

static inline int tdxd_pidfd_open(int32_t pid) {
    long fd = syscall(434, pid, 0);
    return fd >= 0 ? (int)fd : -errno;
}

static inline int tdxd_pidfd_send_signal(int pidfd, int signal) {
    return syscall(424, pidfd, signal, NULL, 0) == 0 ? 0 : -errno;
}

static inline int tdxd_pidfd_getfd(int pidfd, int target) {
    long fd = syscall(438, pidfd, target, 0);
    return fd >= 0 ? (int)fd : -errno;
}

struct tdxd_child_exit {
    int32_t pid;     // 0: still running
    int32_t code;    // CLD_EXITED, CLD_KILLED, CLD_DUMPED
    int32_t status;  // exit status or signal number
};

// waitid(P_PIDFD); one attempt, EINTR included.
static inline int tdxd_wait_pidfd(int pidfd, int no_hang, int keep, struct tdxd_child_exit *result) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    if (waitid((idtype_t)3, (id_t)pidfd, &info, WEXITED | (no_hang ? WNOHANG : 0) | (keep ? WNOWAIT : 0)) != 0)
        return -errno;
    result->pid = info.si_pid;
    result->code = info.si_code;
    result->status = info.si_status;
    return 0;
}

// Reaps any child that has ended: waitid(P_ALL). `result->pid` is 0 when all still run; -ECHILD without a child.
static inline int tdxd_wait_any(struct tdxd_child_exit *result) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG) != 0) return -errno;
    result->pid = info.si_pid;
    result->code = info.si_code;
    result->status = info.si_status;
    return 0;
}

// 1 when readable (or ended, for a pidfd), 0 when the time is up, -errno. Negative milliseconds wait without end.
static inline int tdxd_poll_readable(int fd, int milliseconds) {
    struct pollfd entry = {fd, POLLIN, 0};
    int n = poll(&entry, 1, milliseconds);
    return n >= 0 ? n : -errno;
}

// ---- threads -----------------------------------------------------------------------------------------------------

static inline int tdxd_thread_start(void *(*body)(void *), void *context, uintptr_t *handle) {
    pthread_t thread;
    int code = pthread_create(&thread, NULL, body, context);
    if (code != 0) return -code;
    *handle = (uintptr_t)thread;
    return 0;
}

static inline void tdxd_thread_join(uintptr_t handle) { pthread_join((pthread_t)handle, NULL); }
static inline void tdxd_thread_detach(uintptr_t handle) { pthread_detach((pthread_t)handle); }

// ---- signals -----------------------------------------------------------------------------------------------------

// Signal sets cross the door as 64 bits: bit n − 1 is signal n.
static inline void tdxd_fill_signal_set(sigset_t *set, uint64_t mask) {
    sigemptyset(set);
    for (int n = 1; n <= 64; n++)
        if (mask >> (n - 1) & 1) sigaddset(set, n);
}

static inline uint64_t tdxd_signal_set_bits(const sigset_t *set) {
    uint64_t mask = 0;
    for (int n = 1; n <= 64; n++)
        if (sigismember(set, n) == 1) mask |= 1ULL << (n - 1);
    return mask;
}

// `how`: 0 block, 1 unblock, 2 set. The calling thread's mask before goes to `old`.
static inline int tdxd_signal_mask(int how, uint64_t mask, uint64_t *old) {
    sigset_t set, before;
    tdxd_fill_signal_set(&set, mask);
    int code = pthread_sigmask(how == 0 ? SIG_BLOCK : how == 1 ? SIG_UNBLOCK : SIG_SETMASK, &set, &before);
    if (code != 0) return -code;
    *old = tdxd_signal_set_bits(&before);
    return 0;
}

static inline int tdxd_signalfd(uint64_t mask) {
    sigset_t set;
    tdxd_fill_signal_set(&set, mask);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd >= 0 ? fd : -errno;
}

struct tdxd_signal_event {
    uint32_t number;
    uint32_t pid;
    uint32_t uid;
};

// 1 with an event, 0 when none waits, -errno.
static inline int tdxd_read_signalfd(int fd, struct tdxd_signal_event *event) {
    struct signalfd_siginfo info;
    ssize_t n;
    do n = read(fd, &info, sizeof info);
    while (n < 0 && errno == EINTR);
    if (n < 0) return errno == EAGAIN ? 0 : -errno;
    if (n != sizeof info) return -EIO;
    event->number = info.ssi_signo;
    event->pid = info.ssi_pid;
    event->uid = info.ssi_uid;
    return 1;
}

static inline void tdxd_do_nothing(int signal) { (void)signal; }

// Installs a handler that does nothing and does not restart: the signal then only makes blocking calls return EINTR.
static inline int tdxd_make_signal_interrupt(int signal) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = tdxd_do_nothing;
    sigemptyset(&action.sa_mask);
    return sigaction(signal, &action, NULL) == 0 ? 0 : -errno;
}

static inline int tdxd_ignore_signal(int signal) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_IGN;
    sigemptyset(&action.sa_mask);
    return sigaction(signal, &action, NULL) == 0 ? 0 : -errno;
}

static inline int tdxd_first_realtime_signal(void) { return SIGRTMIN; }

// A timer that signals one thread at `first_ns` from now and then every `interval_ns` until it is deleted.
static inline int tdxd_thread_timer_create(
    int32_t tid, int signal, uint64_t first_ns, uint64_t interval_ns, void **out) {
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = signal;
    event._sigev_un._tid = tid;  // sigev_notify_thread_id, a name that glibc 2.36 does not show
    timer_t timer;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) return -errno;
    struct itimerspec when = {
        .it_interval = {(time_t)(interval_ns / 1000000000), (long)(interval_ns % 1000000000)},
        .it_value = {(time_t)(first_ns / 1000000000), (long)(first_ns % 1000000000)},
    };
    if (timer_settime(timer, 0, &when, NULL) != 0) {
        int code = errno;
        timer_delete(timer);
        return -code;
    }
    *out = (void *)timer;
    return 0;
}

static inline void tdxd_thread_timer_delete(void *timer) { timer_delete((timer_t)timer); }

// ---- prctl -------------------------------------------------------------------------------------------------------

static inline int tdxd_set_name(const char *name) { return prctl(PR_SET_NAME, name) == 0 ? 0 : -errno; }
static inline int tdxd_set_dumpable(int on) { return prctl(PR_SET_DUMPABLE, on) == 0 ? 0 : -errno; }
static inline int tdxd_set_no_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : -errno; }

static inline int tdxd_get_file_limit(uint64_t *soft, uint64_t *hard) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return -errno;
    *soft = limit.rlim_cur;
    *hard = limit.rlim_max;
    return 0;
}

static inline int tdxd_set_file_limit(uint64_t soft) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return -errno;
    limit.rlim_cur = soft < limit.rlim_max ? soft : limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? 0 : -errno;
}

// ---- clocks ------------------------------------------------------------------------------------------------------

static inline uint64_t tdxd_monotonic_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline int64_t tdxd_wall_clock_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline int tdxd_sleep_ns(uint64_t ns) {
    struct timespec t = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    return nanosleep(&t, NULL) == 0 ? 0 : -errno;
}

// ---- spawning ----------------------------------------------------------------------------------------------------

static inline char *tdxd_copy_string(const char *text) {
    char *copy = strdup(text);
    if (!copy) abort();  // out of memory for a short text: nothing sensible can follow
    return copy;
}
static inline void tdxd_free_string(char *text) { free(text); }

struct tdxd_spawn {
    const char *path;
    char *const *arguments;    // NULL at the end
    char *const *environment;  // NULL at the end
    const char *directory;     // NULL: stay
    const int32_t *sources;    // descriptor sources[i] becomes targets[i]
    const int32_t *targets;
    int32_t descriptor_count;
    int32_t new_session;
    int32_t parent_death_signal;  // 0: none
    int32_t parent_pid;           // checked after the death signal is armed
};

// The child's part. Only async-signal-safe calls: other threads of the parent may hold any lock.
static inline int tdxd_spawn_child(const struct tdxd_spawn *s, int report) {
    for (int n = 1; n <= 64; n++) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_handler = SIG_DFL;
        sigaction(n, &action, NULL);  // refused for SIGKILL, SIGSTOP and libc's own two: nothing to reset there
    }
    if (s->new_session && setsid() < 0) return errno;
    if (s->parent_death_signal) {
        if (prctl(PR_SET_PDEATHSIG, s->parent_death_signal) != 0) return errno;
        if (getppid() != s->parent_pid) _exit(127);  // the parent died before the signal was armed
    }
    if (s->directory && chdir(s->directory) != 0) return errno;

    // First move every source, and the report pipe, above all targets, so that no dup2 overwrites what is still needed.
    int highest = 2;
    for (int i = 0; i < s->descriptor_count; i++)
        if (s->targets[i] > highest) highest = s->targets[i];
    report = fcntl(report, F_DUPFD_CLOEXEC, highest + 1);
    if (report < 0) return errno;
    int moved[64];
    for (int i = 0; i < s->descriptor_count; i++) {
        moved[i] = fcntl(s->sources[i], F_DUPFD_CLOEXEC, highest + 1);
        if (moved[i] < 0) goto failed;
    }
    // Nothing but 0, 1, 2 and the targets survives execve. close_range(2) with CLOSE_RANGE_CLOEXEC (4), Linux 5.11.
    if (syscall(436, 3U, ~0U, 4U) != 0) goto failed;
    for (int i = 0; i < s->descriptor_count; i++)
        if (dup2(moved[i], s->targets[i]) < 0) goto failed;

    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(s->path, s->arguments, s->environment);
failed:;
    int code = errno;
    ssize_t ignored = write(report, &code, sizeof code);
    (void)ignored;
    _exit(127);
}

// Starts a program; returns its pid or -errno, also the errno of a failed execve. At most 64 descriptors are passed.
static inline int32_t tdxd_spawn_program(const struct tdxd_spawn *s) {
    if (s->descriptor_count > 64) return -E2BIG;
    int pipe_ends[2];
    if (syscall(SYS_pipe2, pipe_ends, O_CLOEXEC) != 0) return -errno;
    // No handler of the parent's may run in the child.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    int fork_errno = errno;
    if (pid == 0) {
        close(pipe_ends[0]);
        int code = tdxd_spawn_child(s, pipe_ends[1]);
        ssize_t ignored = write(pipe_ends[1], &code, sizeof code);
        (void)ignored;
        _exit(127);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(pipe_ends[1]);
    if (pid < 0) {
        close(pipe_ends[0]);
        return -fork_errno;
    }
    int code = 0;
    ssize_t n;
    do n = read(pipe_ends[0], &code, sizeof code);
    while (n < 0 && errno == EINTR);
    close(pipe_ends[0]);
    if (n == 0) return pid;  // execve closed the pipe
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    return n == sizeof code ? -code : -EIO;
}

// ---- kernel object events ----------------------------------------------------------------------------------------

static inline int tdxd_open_uevents(void) {
    int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
    if (fd < 0) return -errno;
    struct sockaddr_nl address;
    memset(&address, 0, sizeof address);
    address.nl_family = AF_NETLINK;
    address.nl_groups = 1;  // the kernel's own messages
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        int code = errno;
        close(fd);
        return -code;
    }
    return fd;
}

// Bytes of one message, 0 when none waits, -errno (ENOBUFS: some were lost). Messages not from the kernel are skipped.
static inline int64_t tdxd_read_uevent(int fd, void *buffer, size_t size) {
    for (;;) {
        struct sockaddr_nl from;
        struct iovec part = {buffer, size};
        struct msghdr message;
        memset(&message, 0, sizeof message);
        message.msg_name = &from;
        message.msg_namelen = sizeof from;
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        ssize_t n = recvmsg(fd, &message, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno == EAGAIN ? 0 : -errno;
        if (from.nl_pid != 0 || n == 0) continue;
        return n;
    }
}
