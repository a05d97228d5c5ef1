extension SystemCallFilter {
    /// What a holder may do: serve its socket, own guest memory, run vCPUs. It starts no program, opens no network and
    /// sees no other process.
    ///
    /// - Parameter requests: the ioctl request numbers that the holder's code issues on /dev/kvm and what it opens
    ///   there, from the constants that it calls with.
    public static func holder(
        ioctlRequests requests: some Sequence<UInt32>, refusing refusal: Refusal = .errno(1)
    ) -> SystemCallFilter {
        SystemCallFilter(
            refusing: refusal,
            rules: runtimeRules + serverRules + memoryRules + [
                .ioctl(requests, because: "KVM, by number")
            ])
    }

    /// What tdxd may do while it starts, and its launcher of holders for good: all that a holder may, because a program
    /// inherits the filter of whoever starts it, and besides keep files, start holders and tend them. All of KVM's
    /// requests are let through: the holder's own filter has the numbers.
    public static func daemon(refusing refusal: Refusal = .errno(1)) -> SystemCallFilter {
        SystemCallFilter(
            refusing: refusal,
            rules: runtimeRules + serverRules + memoryRules + managerRules + [
                .ioctl(ofType: kvmRequests, because: "the holders' KVM calls, which they narrow down")
            ])
    }

    /// The type of KVM's request numbers.
    private static let kvmRequests: UInt8 = 0xae

    /// What tdxd adds to that once its launcher runs: it starts no program any more, and asks nothing of KVM. Of
    /// several filters the strictest answer holds, so this one only lists what is refused.
    public static var serving: SystemCallFilter {
        SystemCallFilter(
            refusing: .none,
            rules: [
                .init(["execve", "execveat", "setsid"], verdict: .errno(1), because: "holders come from the launcher"),
                .ioctl(ofType: kvmRequests, verdict: .errno(1), because: "KVM's requests are holders'"),
            ])
    }

    /// CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
    private static let namespaceFlags: UInt64 =
        0x80 | 0x2_0000 | 0x200_0000 | 0x400_0000 | 0x800_0000 | 0x1000_0000
        | 0x2000_0000 | 0x4000_0000

    /// The first argument, an int: the register's upper half means nothing.
    private static func first(_ number: UInt64) -> SystemCallRule.Condition {
        .init(argument: 0, mask: 0xffff_ffff, value: number)
    }

    /// What the C library and the Swift runtime need to live, and threads.
    static let runtimeRules: [SystemCallRule] = [
        .init(
            ["mmap", "munmap", "mprotect", "mremap", "madvise", "brk"],
            because: "memory of malloc, of thread stacks and of mapped guest memory"),
        .init(["futex", "set_robust_list", "rseq", "membarrier", "sched_yield"], because: "locks and threads"),
        .init(
            ["clone"], when: [.init(argument: 0, mask: namespaceFlags, value: 0)],
            because: "threads and holders, never in a new namespace"),
        .init(
            ["clone3"], verdict: .errno(38),
            because: "its flags are in memory that a filter cannot read; with ENOSYS the C library uses clone"),
        .init(["exit", "exit_group"], because: "ending"),
        .init(
            [
                "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "rt_sigsuspend", "sigaltstack",
                "restart_syscall",
            ],
            because: "signals: the kick that takes a vCPU out of KVM_RUN, SIGTERM, crash reports"),
        .init(["tgkill"], because: "the kick of a vCPU thread, and abort(3)"),
        .init(
            [
                "getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getgroups", "getresuid",
                "getresgid", "umask", "uname", "sysinfo",
            ],
            because: "who and where one is"),
        .init(
            ["clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time"],
            because: "time, where the vDSO does not serve"),
        .init(["sched_getaffinity", "getcpu", "getrandom", "prlimit64", "getrlimit", "setrlimit"], because: "limits"),
        .init(["arch_prctl", "set_tid_address"], because: "thread-local storage, and a program's first thread"),
        .init(
            ["timer_create", "timer_settime", "timer_gettime", "timer_getoverrun", "timer_delete"],
            because: "alarms that bound a blocking call of one thread"),
        .init(
            ["prctl"],
            // PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_NAME, PR_GET_NAME,
            // PR_CAPBSET_READ, PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS,
            // PR_GET_NO_NEW_PRIVS, PR_SET_VMA
            when: [1, 2, 3, 4, 15, 16, 23, 36, 37, 38, 39, 0x5356_4d41].map(first),
            because: "names and harmless attributes"),
        .init(["seccomp"], because: "holders, and tdxd once its launcher runs, add a narrower filter"),
        // landlock_create_ruleset, landlock_add_rule, landlock_restrict_self: by number, as some libseccomp lack the
        // names.
        .init(calls: [.number(444), .number(445), .number(446)], because: "and fences itself in further"),
    ]

    /// What an event loop on Unix sockets needs.
    static let serverRules: [SystemCallRule] = [
        .init(
            ["read", "write", "readv", "writev", "pread64", "pwrite64", "lseek", "close", "close_range"],
            because: "descriptors"),
        .init(
            ["fcntl", "dup", "dup2", "dup3", "pipe2", "ppoll", "poll", "pselect6", "select"],
            because: "descriptors that are passed on or waited for"),
        .init(
            [
                "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd2", "signalfd4",
                "timerfd_create", "timerfd_settime", "timerfd_gettime",
            ],
            because: "the event loop"),
        .init(["socket", "socketpair"], when: [first(1)], because: "Unix sockets: control, journal, notification"),
        .init(["socket"], when: [first(16)], because: "netlink: KVM's events that a VM is gone"),
        .init(
            [
                "bind", "listen", "accept", "accept4", "connect", "getsockname", "getpeername", "getsockopt",
                "setsockopt", "sendmsg", "sendmmsg", "recvmsg", "recvmmsg", "sendto", "recvfrom", "shutdown",
            ],
            because: "sockets, with descriptors and credentials"),
        .init(
            [
                "openat", "openat2", "open", "stat", "fstat", "lstat", "newfstatat", "statx", "access", "faccessat",
                "faccessat2",
                "readlink", "readlinkat", "getdents64", "statfs", "fstatfs", "getcwd",
            ],
            because: "/dev/kvm, /proc, /sys, certificates"),
        .init(
            ["unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "chmod", "fchmod", "fchmodat"],
            because: "one's own socket and folder"),
        .ioctl(
            [0x5401, 0x5413, 0x541b, 0x5421],
            because: "TCGETS and TIOCGWINSZ (is this a terminal?), FIONREAD, FIONBIO"),
    ]

    /// What owning guest memory needs beside KVM.
    static let memoryRules: [SystemCallRule] = [
        .init(["memfd_create", "fallocate", "ftruncate"], because: "the shared side"),
        .init(["mbind", "set_mempolicy", "get_mempolicy"], because: "placement on NUMA nodes"),
        // libseccomp 2.5 does not know the name.
        .init(calls: [.number(451)], because: "cachestat: residency is measured"),
        .init(["pidfd_open", "pidfd_send_signal"], because: "noticing that tdxd or a holder is gone"),
    ]

    /// What tdxd does besides.
    static let managerRules: [SystemCallRule] = [
        .init(["execve", "setsid", "getpgid", "getpgrp"], because: "starting holders"),
        .init(["wait4", "waitid", "kill"], because: "tending holders"),
        .init(
            [
                "rename", "renameat", "renameat2", "fsync", "fdatasync", "flock", "chdir", "fchdir",
            ],
            because: "the registry and certificates, written whole or not at all"),
    ]
}
