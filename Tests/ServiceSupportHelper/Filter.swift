import Glibc
import LinuxSystem
import ServiceSupport
import SystemPackage

/// The request number that the holder's filter under test lets through.
private let allowedRequest: UInt32 = 0xae00

/// filter daemon|holder [twice] errno|kill: loads the profile, and a holder's on top of it, and shows what gets
/// through.
func tryFilter(_ arguments: [String]) throws {
    let refusal: SystemCallFilter.Refusal = arguments.last == "kill" ? .kill : .errno(1)
    let filter: SystemCallFilter =
        arguments.first == "daemon"
        ? .daemon(refusing: refusal) : .holder(ioctlRequests: [allowedRequest], refusing: refusal)

    // A thread that was there before: the filter must hold for it, too.
    var pipes: [Int32] = [0, 0]
    guard pipe(&pipes) == 0 else { fail("pipe") }
    let waitsFor = pipes[0]
    let early = try SystemThread(name: "early") {
        var byte: UInt8 = 0
        _ = read(waitsFor, &byte, 1)
        say("early thread socket(AF_INET) \(attempt("socket", 2, 1, 0))")
    }

    // Death by SIGSYS would leave a core file behind.
    try CurrentProcess.setDumpable(false)
    try filter.load()
    if arguments.contains("twice") { try SystemCallFilter.holder(ioctlRequests: [allowedRequest]).load() }
    say("loaded")
    if refusal == .kill {
        _ = attempt("ptrace", 0, 0, 0)
        fail("a forbidden call came back")
    }
    _ = write(pipes[1], [1], 1)
    early.join()

    for (name, a, b, c) in [
        ("socket", 2, 1, 0), ("socket", 1, 1, 0), ("ptrace", 0, 0, 0), ("unshare", 0x1000_0000, 0, 0),
        ("mount", 0, 0, 0), ("bpf", 0, 0, 0), ("init_module", 0, 0, 0), ("process_vm_readv", 0, 0, 0),
        ("io_uring_setup", 0, 0, 0), ("userfaultfd", 0, 0, 0), ("perf_event_open", 0, 0, 0), ("setuid", 0, 0, 0),
        ("keyctl", 0, 0, 0), ("clone3", 0, 0, 0), ("clone", 0x1000_0000, 0, 0), ("execve", 0, 0, 0),
        ("ioctl", 0, UInt64(allowedRequest), 0), ("ioctl", 0, UInt64(allowedRequest) | 1 << 32, 0),
        ("ioctl", 0, 0xae01, 0), ("ioctl", 0, 0x5412, 0), ("kill", UInt64(getpid()), 0, 0), ("getpid", 0, 0, 0),
        ("memfd_create", 0, 0, 0),
    ] as [(String, UInt64, UInt64, UInt64)] {
        say("\(name)(\(a), \(b)) \(attempt(name, a, b, c))")
    }

    // The Swift runtime and the C library go on working.
    let late = try SystemThread(name: "late") { say("late thread runs") }
    late.join()
    let blob = [UInt8](repeating: 7, count: 8 << 20)
    say("allocated \(blob.reduce(0) { $0 + Int($1) })")
    say("read \(try TextFile.read("/proc/self/comm").isEmpty ? "nothing" : "a file")")
    let file = try OwnedDescriptor.open(path: "/dev/null", .readWrite)
    say("opened \(file.rawValue >= 0)")
    say("no_new_privs \(try TextFile.read("/proc/self/status").contains("NoNewPrivs:\t1"))")
}

/// narrow: loads tdxd's filter and, on top of it, the one of a tdxd that serves, and shows what each leaves of starting
/// programs and of KVM, in a thread that was there before and in a later one.
func narrow() throws {
    // KVM_GET_API_VERSION of the device where there is one; any other descriptor answers ENOTTY.
    let descriptor = UInt64(max(open("/dev/kvm", O_RDWR | O_CLOEXEC), 0))
    var pipes: [Int32] = [0, 0]
    guard pipe(&pipes) == 0 else { fail("pipe") }
    let waitsFor = pipes[0]
    @Sendable func tryAll(_ label: String) {
        let version = attempt("ioctl", descriptor, 0xae00, 0)
        say("\(label) ioctl(KVM_GET_API_VERSION) \(version == "ENOTTY" ? "ok" : version)")
        // Where it is let through the path is looked at, and is none.
        for call in ["execve", "execveat", "setsid"] { say("\(label) \(call) \(attempt(call, 0, 0, 0))") }
        say("\(label) ioctl(FIONREAD) \(attempt("ioctl", UInt64(waitsFor), 0x541b, 0))")
        say("\(label) getpid \(attempt("getpid", 0, 0, 0))")
    }
    let early = try SystemThread(name: "early") {
        var byte: UInt8 = 0
        _ = read(waitsFor, &byte, 1)
        tryAll("early")
    }
    try SystemCallFilter.daemon().load()
    tryAll("starting")
    try SystemCallFilter.serving.load()
    _ = write(pipes[1], [1], 1)
    early.join()
    tryAll("serving")
    let late = try SystemThread(name: "late") { tryAll("late") }
    late.join()
    say("read \(try TextFile.read("/proc/self/comm").isEmpty ? "nothing" : "a file")")
}

/// inherit: loads the daemon's filter and starts this program again as a holder, which lives under both.
func inherit() throws {
    try SystemCallFilter.daemon().load()
    let start = ProgramStart(path: try TextFile.linkTarget("/proc/self/exe"), arguments: ["filter", "holder", "errno"])
    let holder = try start.start()
    say("holder \(try holder.wait())")
}

/// The errno's name, or "ok".
private func attempt(_ name: String, _ a: UInt64, _ b: UInt64, _ c: UInt64) -> String {
    guard let result = SystemCallFilter.attempt(name, a, b, c) else { return "unknown" }
    return result < 0 ? Errno(rawValue: Int32(-result)).name : "ok"
}
