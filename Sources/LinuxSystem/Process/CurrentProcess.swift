internal import CLinux

/// The process that runs this code, and its threads.
public enum CurrentProcess {
    public static var pid: Int32 { tdxd_getpid() }
    public static var parentPID: Int32 { tdxd_getppid() }
    public static var effectiveUID: UInt32 { tdxd_geteuid() }
    /// gettid(2)
    public static var threadID: Int32 { tdxd_gettid() }

    /// tgkill(2): a signal to one thread of this process.
    /// - Throws: ESRCH when the thread is gone.
    public static func signal(thread: Int32, _ signal: Signal) throws(LinuxError) {
        try LinuxError.check(tdxd_tgkill(pid, thread, signal.rawValue), "tgkill", "thread \(thread), \(signal)")
    }

    /// Standard input, output and error of a program that was started without them become /dev/null, so that no other
    /// file gets their numbers, and with them what is printed. For the first moment of a program.
    /// - Returns: the numbers that were closed.
    @discardableResult
    public static func openStandardDescriptors() throws(LinuxError) -> [Int32] {
        let closed = try LinuxError.check(tdxd_open_standard_descriptors(), "open", "/dev/null")
        return (0...2).filter { closed & 1 << $0 != 0 }
    }

    /// M_ARENA_MAX of mallopt(3): how many heaps the allocator spreads threads over, 1 or more; 8 for each CPU by
    /// itself. What threads that have ended leave unused stays with their heap.
    public static func limitHeaps(_ count: Int32) {
        precondition(count > 0, "a process has a heap")
        _ = tdxd_limit_heaps(count)
    }

    /// malloc_trim(3): gives the kernel back every whole page of freed memory. The allocator by itself does so at a
    /// heap's end alone, so that one small block keeps all that was freed below it.
    public static func trimHeaps() { _ = tdxd_trim_heaps() }

    /// PR_SET_NAME: the calling thread's name, up to 15 bytes; the main thread's is what ps shows. Longer ones are cut.
    public static func setThreadName(_ name: String) { _ = tdxd_set_name(name) }

    /// PR_SET_DUMPABLE: off keeps the process out of core dumps, and other users' eyes out of its /proc entries.
    public static func setDumpable(_ on: Bool) throws(LinuxError) {
        try LinuxError.check(tdxd_set_dumpable(on ? 1 : 0), "prctl(PR_SET_DUMPABLE)")
    }

    /// PR_SET_NO_NEW_PRIVS
    public static func setNoNewPrivileges() throws(LinuxError) {
        try LinuxError.check(tdxd_set_no_new_privileges(), "prctl(PR_SET_NO_NEW_PRIVS)")
    }

    /// RLIMIT_NOFILE: the soft and the hard limit of open descriptors.
    public static func descriptorLimit() throws(LinuxError) -> (soft: UInt64, hard: UInt64) {
        var soft: UInt64 = 0
        var hard: UInt64 = 0
        try LinuxError.check(tdxd_get_file_limit(&soft, &hard), "getrlimit(RLIMIT_NOFILE)")
        return (soft, hard)
    }

    /// Raises or lowers the soft limit of open descriptors, at most to the hard limit.
    public static func setDescriptorLimit(_ soft: UInt64) throws(LinuxError) {
        try LinuxError.check(tdxd_set_file_limit(soft), "setrlimit(RLIMIT_NOFILE)", "\(soft)")
    }

    /// SIGSTOP for every thread of this process, until another process sends SIGCONT. Returns when it is continued.
    public static func stop() { _ = tdxd_tgkill(tdxd_getpid(), tdxd_gettid(), 19) }
}
