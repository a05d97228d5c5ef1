import Glibc
import LinuxSystem
import MemoryUnits
import ServiceSupport
import SystemPackage

/// fence DIRECTORY [twice]: with DIRECTORY/open and DIRECTORY/closed, allows the first alone and shows what gets
/// through, in this thread, in one that is started later, and in a program.
func tryFence(_ arguments: [String]) throws {
    guard let directory = arguments.first else { fail("fence DIRECTORY [twice]") }
    let descriptor = try OwnedDescriptor.open(path: directory + "/closed/file")
    let fence = FileSystemFence(
        rules: [
            .init(directory + "/open", .keep, because: "a test"),
            .init(directory + "/closed/single", .readFile, because: "a test of one file"),
            .init(directory + "/absent", .keep, because: "a test of what is not there"),
            .init("/proc", .read, because: "a test"),
            .init("/usr", [.read, .execute], because: "a test that starts a program"),
            .init("/lib", [.read, .execute], because: "and its loader"),
            .init("/lib64", [.read, .execute], because: "and its loader"),
        ], isolatingProcess: true)
    switch try fence.enter() {
    case .entered(let version, let missing): say("entered \(version >= 1) missing \(missing.map(name))")
    case .unavailable(let error): return say("unavailable \(error.errno.name)")
    }
    if arguments.contains("twice") {
        // Nested: what the inner one gives, the outer one must give, too.
        let inner = FileSystemFence(
            rules: [.init(directory, .readFile, because: "a test"), .init("/proc", .read, because: "a test")])
        _ = try inner.enter()
        say("entered again")
    }
    attemptAll(directory, "here")
    let late = try SystemThread(name: "late") { attemptAll(directory, "thread") }
    late.join()
    say("opened before: read \(try descriptor.read(count: 4, at: .zero).count)")
    let parent = try ProcessHandle(pid: getppid())
    say("signal parent \(outcome { try parent.send(Signal(rawValue: 0)) })")
    say("look into parent \(outcome { _ = try TextFile.linkTarget("/proc/\(getppid())/exe") })")
    say("parent is unseen \(try InodeHolders.find([]).unseen.contains(getppid()))")
    let own = try ProcessHandle(pid: getpid())
    say("signal self \(outcome { try own.send(Signal(rawValue: 0)) })")
    say("no_new_privs \(try TextFile.read("/proc/self/status").contains("NoNewPrivs:\t1"))")
    guard !arguments.contains("twice") else { return }
    let cat = try ProgramStart(path: "/usr/bin/cat", arguments: [directory + "/closed/file"]).start()
    say("program \(try cat.wait() == .exited(status: 0) ? "read" : "refused")")
}

private func attemptAll(_ directory: String, _ label: String) {
    for (call, body) in [
        ("read open", { _ = try OwnedDescriptor.open(path: directory + "/open/file") }),
        ("write open", { _ = try OwnedDescriptor.open(path: directory + "/open/file", .writeOnly) }),
        (
            "create open",
            {
                _ = try OwnedDescriptor.create(path: directory + "/open/\(label)")
                try check(unlink(directory + "/open/\(label)"))
            }
        ),
        ("read closed", { _ = try OwnedDescriptor.open(path: directory + "/closed/file") }),
        ("read single", { _ = try OwnedDescriptor.open(path: directory + "/closed/single") }),
        ("write single", { _ = try OwnedDescriptor.open(path: directory + "/closed/single", .writeOnly) }),
        ("create closed", { _ = try OwnedDescriptor.create(path: directory + "/closed/\(label)") }),
        ("unlink closed", { try check(unlink(directory + "/closed/file")) }),
        ("follow link", { _ = try OwnedDescriptor.open(path: directory + "/open/link") }),
        ("rename out", { try check(rename(directory + "/open/file", directory + "/closed/new")) }),
        ("list closed", { _ = try TextFile.list(directory + "/closed") }),
        ("truncate closed", { try check(truncate(directory + "/closed/file", 0)) }),
    ] as [(String, () throws -> Void)] {
        say("\(label): \(call) \(outcome(body))")
    }
}

private func check(_ result: Int32) throws(LinuxError) {
    if result != 0 { throw LinuxError("call", Errno(rawValue: errno)) }
}

private func outcome(_ body: () throws -> Void) -> String {
    do {
        try body()
        return "ok"
    } catch let error as LinuxError {
        return error.errno.name
    } catch {
        return "\(error)"
    }
}

private func name(_ path: String) -> String { path.split(separator: "/").last.map(String.init) ?? path }
