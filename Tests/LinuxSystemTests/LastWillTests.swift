import Glibc
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing

/// The record of a last will, and what can be seen of it while its owner lives. What it does behind its owner's death
/// is shown with whole programs.
struct LastWillTests {
    private static let order = LastWill.Order(request: 0xAE03, argument: .number(10), isRehearsal: true)

    @Test func `a last will stands by, is armed and disarmed, and can be revoked`() throws {
        let tree = try TemporaryTree()
        let path = tree.path + "/last-will"
        let will = try LastWill(Self.order, recordAt: path)
        defer { will.revoke() }
        func state() throws -> LastWillRecord.State? {
            try LastWillRecord.read(at: path, patience: .zero)?.record.state
        }
        #expect(try state() == .standingBy)
        #expect(!will.isArmed && !will.hasEnded)
        let target = RetainedDescriptor(try MemoryFile(name: "target", size: ByteCount(4096)).duplicateDescriptor())
        try will.arm(target)
        #expect(will.isArmed)
        let reading = try #require(try LastWillRecord.read(at: path, patience: .zero))
        #expect(reading.record.state == .armed && reading.record.pid == will.pid && !reading.isFinal)
        will.disarm()
        #expect(try state() == .standingBy && !will.isArmed)
        try will.arm(target)
        will.revoke()
        #expect(try ProcessHandle(pid: will.pid).waitUntilEnded(milliseconds: 60_000))
        #expect(will.hasEnded && !will.isArmed)
    }

    @Test func `it has its owner's memory, a name of its own, all signals blocked and a filter`() throws {
        let tree = try TemporaryTree()
        let will = try LastWill(Self.order, recordAt: tree.path + "/last-will")
        defer { will.revoke() }
        func status() throws -> [Substring] {
            try TextFile.read("/proc/\(will.pid)/status").split(separator: "\n")
        }
        // It confines itself after it was started.
        let deadline = MonotonicInstant.now + .seconds(60)
        while try !status().contains("Seccomp:\t2"), MonotonicInstant.now < deadline {
            CurrentThread.sleep(milliseconds: 1)
        }
        let lines = try status()
        #expect(lines.contains("Seccomp:\t2") && lines.contains("NoNewPrivs:\t1"))
        #expect(lines.contains("Name:\ttdx-last-will") && lines.contains("Threads:\t1"))
        // All but SIGKILL and SIGSTOP; the C library keeps two more to itself.
        let blocked = lines.first { $0.hasPrefix("SigBlk:") }.map { $0.dropFirst(8) }
        #expect(blocked.flatMap { UInt64($0, radix: 16) }.map { $0 & 0x7ffb_feff } == 0x7ffb_feff)
    }

    @Test func `a second record is not written over the first, and what is no record is not believed`() throws {
        let tree = try TemporaryTree()
        let path = tree.path + "/last-will"
        #expect(try LastWillRecord.read(at: path, patience: .zero) == nil)
        let file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0o600)
        defer { close(file) }
        #expect(throws: LinuxError.self) { _ = try LastWill(Self.order, recordAt: path) }
        for contents in ["", "TDXDWILL", String(repeating: "x", count: 64)] {
            #expect(ftruncate(file, 0) == 0 && pwrite(file, contents, contents.utf8.count, 0) == contents.utf8.count)
            #expect { _ = try LastWillRecord.read(at: path, patience: .zero) } throws: {
                ($0 as? LinuxError)?.errno == Errno(rawValue: EBADMSG)
            }
        }
    }
}
