import LinuxSystem
import ServiceSupport
import Testing

@Suite struct `The system call filter` {
    /// What both profiles do: a call of each kind, and how it ends.
    private let common = [
        "loaded", "early thread socket(AF_INET) EPERM", "socket(2, 1) EPERM", "socket(1, 1) ok", "ptrace(0, 0) EPERM",
        "unshare(268435456, 0) EPERM", "mount(0, 0) EPERM", "bpf(0, 0) EPERM", "init_module(0, 0) EPERM",
        "process_vm_readv(0, 0) EPERM", "io_uring_setup(0, 0) EPERM", "userfaultfd(0, 0) EPERM",
        "perf_event_open(0, 0) EPERM", "setuid(0, 0) EPERM", "keyctl(0, 0) EPERM", "clone3(0, 0) ENOSYS",
        "clone(268435456, 0) EPERM", "getpid(0, 0) ok", "memfd_create(0, 0) EFAULT", "late thread runs",
        "allocated 58720256", "read a file", "opened true", "no_new_privs true",
    ]

    @Test(arguments: ["holder", "daemon"])
    func `refuses what is not listed in every thread, and lets the program live`(profile: String) throws {
        let ran = try Helper.run(["filter", profile, "errno"])
        #expect(ran.exit == .exited(status: 0))
        let missing = common.filter { !ran.output.contains($0) }
        #expect(missing.isEmpty, "\(ran.output)")
    }

    @Test func `lets a holder's ioctl through by request number alone`() throws {
        let lines = try Helper.run(["filter", "holder", "errno"]).output.filter { $0.hasPrefix("ioctl") }
        // Standard input is no KVM descriptor, so a request that gets through ends in ENOTTY or the like, never EPERM.
        try #require(lines.count == 4)
        #expect(!lines[0].hasSuffix("EPERM") && !lines[1].hasSuffix("EPERM"), "\(lines)")
        #expect(lines[2].hasSuffix("EPERM") && lines[3].hasSuffix("EPERM"), "\(lines)")
    }

    @Test func `keeps a holder from starting programs and signalling others`() throws {
        let lines = try Helper.run(["filter", "holder", "errno"]).output
        #expect(lines.contains("execve(0, 0) EPERM"))
        #expect(lines.contains { $0.hasPrefix("kill(") && $0.hasSuffix("EPERM") })
    }

    @Test func `lets the daemon start holders and signal them`() throws {
        let lines = try Helper.run(["filter", "daemon", "errno"]).output
        #expect(lines.contains("execve(0, 0) EFAULT"))
        #expect(lines.contains { $0.hasPrefix("kill(") && $0.hasSuffix("ok") })
    }

    @Test func `lets the daemon's ioctl through by type alone`() throws {
        let lines = try Helper.run(["filter", "daemon", "errno"]).output.filter { $0.hasPrefix("ioctl") }
        try #require(lines.count == 4)
        #expect(lines[..<3].allSatisfy { !$0.hasSuffix("EPERM") } && lines[3].hasSuffix("EPERM"), "\(lines)")
    }

    @Test func `without ioctl requests lets none through`() {
        #expect(SystemCallRule.ioctl([UInt32](), because: "nothing").calls.isEmpty)
    }

    @Test func `of a holder loads on top of the one that it inherited, and both hold`() throws {
        let ran = try Helper.run(["filter", "daemon", "twice", "errno"])
        #expect(ran.exit == .exited(status: 0), "\(ran.output)")
        #expect(ran.output.contains("execve(0, 0) EPERM"))
        #expect(ran.output.contains { $0.hasPrefix("ioctl(0, 44545)") && $0.hasSuffix("EPERM") })
        #expect(common.allSatisfy { ran.output.contains($0) })
    }

    @Test func `of the daemon lets a holder start, load its own and live under both`() throws {
        let ran = try Helper.run(["inherit"])
        #expect(ran.output.last == "holder exited with status 0", "\(ran)")
        #expect(common.allSatisfy { ran.output.contains($0) }, "\(ran.output)")
        #expect(ran.output.contains("execve(0, 0) EPERM"))
    }

    @Test func `of a daemon that serves takes KVM and programs away, from every thread, and nothing else`() throws {
        let ran = try Helper.run(["narrow"])
        #expect(ran.exit == .exited(status: 0), "\(ran)")
        for line in ["ioctl(KVM_GET_API_VERSION) ok", "execve EFAULT", "getpid ok", "ioctl(FIONREAD) EFAULT"] {
            #expect(ran.output.contains("starting \(line)"), "\(ran.output)")
        }
        for thread in ["early", "serving", "late"] {
            for line in [
                "ioctl(KVM_GET_API_VERSION) EPERM", "execve EPERM", "execveat EPERM", "setsid EPERM", "getpid ok",
                "ioctl(FIONREAD) EFAULT",
            ] {
                #expect(ran.output.contains("\(thread) \(line)"), "\(ran.output)")
            }
        }
        #expect(ran.output.contains("read a file"))
    }

    @Test func `that kills ends the process with SIGSYS`() throws {
        let ran = try Helper.run(["filter", "holder", "kill"])
        guard case .killed(let signal, _) = ran.exit else {
            Issue.record("\(ran.exit)")
            return
        }
        #expect(signal.rawValue == 31)
        #expect(ran.output == ["loaded"])
    }

    @Test func `names a call that nobody knows instead of loading without it`() {
        let filter = SystemCallFilter(rules: [.init(["no_such_call"], because: "a test")])
        let error = #expect(throws: LinuxError.self) { try filter.load() }
        #expect(error?.detail == "no_such_call")
    }

    @Test func `gives the daemon all that a holder has, since holders inherit its filter`() {
        let requests: [UInt32] = [0xae00, 0xae01]
        let holder = Set(SystemCallFilter.holder(ioctlRequests: requests).rules.filter { $0.calls != [.name("ioctl")] })
        let daemon = Set(SystemCallFilter.daemon().rules)
        #expect(holder.isSubset(of: daemon))
        #expect(daemon.allSatisfy { !$0.reason.isEmpty })
    }
}
