import ControlInterface
import Glibc
import LinuxSystem
import MemoryUnits
import Synchronization
import Testing

@testable import TDXDaemon

@Suite struct FirmwareFileTests {
    /// Why a file is rejected; nil when it is opened.
    static func reason(
        _ path: String, uid: UInt32 = 0, ownUID: UInt32 = 0, within directories: [String]? = nil
    ) -> String? {
        do {
            _ = try FirmwareFile.open(path, for: uid, ownUID: ownUID, within: FirmwarePlaces(directories))
            return nil
        } catch {
            guard case .firmwareRejected(path, let reason) = error else { return "another error: \(error)" }
            return reason
        }
    }

    @Test func `a regular file is opened, also through a link`() throws {
        let place = try TemporaryDirectory()
        try DurableFile.write([1, 2, 3], name: "image", in: place.path)
        symlink(place.path + "/image", place.path + "/link")
        #expect(Self.reason(place.path + "/image") == nil)
        #expect(Self.reason(place.path + "/link") == nil)
    }

    @Test func `what is no regular file is told as what it is, without waiting for it`() throws {
        let place = try TemporaryDirectory()
        mkfifo(place.path + "/fifo", 0o600)
        #expect(Self.reason(place.path + "/fifo")?.contains("a FIFO") == true)
        #expect(Self.reason(place.path)?.contains("a directory") == true)
        #expect(Self.reason("/dev/null")?.contains("a device") == true)
        #expect(Self.reason(place.path + "/missing")?.contains("ENOENT") == true)
    }

    @Test func `a file that is empty or too large is rejected`() throws {
        let place = try TemporaryDirectory()
        try DurableFile.write([], name: "empty", in: place.path)
        try DurableFile.write([1], name: "huge", in: place.path)
        truncate(place.path + "/huge", Int(FirmwareFile.maximumSize.rawValue) + 1)
        #expect(Self.reason(place.path + "/empty") == "it is empty")
        #expect(Self.reason(place.path + "/huge")?.contains("at most 64 MiB") == true)
    }

    @Test func `another user hears the same of what is not there and of what is not its own`() throws {
        let place = try TemporaryDirectory()
        let path = place.path
        mkdir(path + "/closed", 0o700)
        mkdir(path + "/open", 0o755)
        for name in ["closed/image", "open/image", "open/secret"] {
            let file = try OwnedDescriptor.create(path: "\(path)/\(name)", mode: 0o644)
            try [UInt8](repeating: 1, count: 64).withUnsafeBytes { try file.write($0, at: .zero) }
            chmod("\(path)/\(name)", name.hasSuffix("secret") ? 0o600 : 0o644)
        }
        mkfifo(path + "/open/fifo", 0o666)
        symlink(path + "/open/image", path + "/open/link")
        let image = try OwnedDescriptor.open(path: path + "/open/image")
        let refused =
            [
                "closed/image", "closed/none", "none", "open/secret", "open/fifo", "open", "open/link",
                "open/../open/image",
                "open/none",
            ].map { "\(path)/\($0)" } + [
                "/etc/shadow", "/root", "/proc/self/fd/\(image.rawValue)", "/proc/self/status", "",
            ]
        let reasons = Set(refused.map { Self.reason($0, uid: 65_533, within: [path]) })
        #expect(reasons.count == 1 && !reasons.contains(nil), "\(reasons)")
        #expect(Self.reason(path + "/open/image", uid: 65_533, within: [path]) == nil)
        // Anywhere is for who has tdxd's rights anyhow.
        #expect(Self.reason(path + "/open/image", uid: 65_533) != nil)
        #expect(Self.reason(path + "/open/secret", uid: 65_533, ownUID: 65_533) == nil)
        #expect(Self.reason(path + "/closed/image", uid: 0, within: [path]) == nil)
        #expect(Self.reason(path + "/open/link", uid: 0, within: [path])?.contains("ELOOP") == true)
    }

    @Test func `a descriptor lies in a directory only where tdxd finds the same file there`() throws {
        let place = try TemporaryDirectory()
        let path = place.path
        for name in ["inside", "outside"] { mkdir("\(path)/\(name)", 0o755) }
        try DurableFile.write([1], name: "a.fd", in: path + "/inside")
        try DurableFile.write([2], name: "a.fd", in: path + "/outside")
        let places = FirmwarePlaces([path + "/inside"])
        func isTaken(_ file: borrowing OwnedDescriptor) -> Bool {
            (try? FirmwareFile.check(file, path: "x", within: places)) != nil
        }
        let inside = try OwnedDescriptor.open(path: path + "/inside/a.fd")
        let outside = try OwnedDescriptor.open(path: path + "/outside/a.fd")
        let (isInsideTaken, isOutsideTaken) = (isTaken(inside), isTaken(outside))
        #expect(isInsideTaken && !isOutsideTaken)
        // The directory's name leads elsewhere now: what counts is the directory that was there when tdxd started.
        rename(path + "/inside", path + "/former")
        rename(path + "/outside", path + "/inside")
        let isMovedTaken = isTaken(outside)
        #expect(!isMovedTaken)
    }

    @Test func `files that are none on a disk are refused`() throws {
        for path in ["/proc/self/status", "/sys/kernel/uevent_seqnum"] where access(path, R_OK) == 0 {
            let file = try OwnedDescriptor.open(path: path)
            #expect(throws: ControlError.self) { try FirmwareFile.check(file, path: path, within: FirmwarePlaces(nil)) }
            #expect(Self.reason(path)?.contains("the kernel's") == true)
        }
    }

    @Test(
        arguments: [
            ("/a/b/c", "/a", ["b", "c"]), ("/a//b/", "/a/", ["b"]), ("/a/b", "/", ["a", "b"]), ("/a", "/a", nil),
            ("/ab/c", "/a", nil), ("a/b", "/a", nil), ("/a/../b", "/a", nil), ("/a/./b", "/a", nil), ("", "/", nil),
        ] as [(String, String, [String]?)])
    func `a path is below a directory by its names alone`(path: String, directory: String, steps: [String]?) {
        #expect(FirmwarePlaces.steps(of: path, below: directory) == steps)
    }
}

@Suite struct PlacesTests {
    @Test func `a runtime directory that leaves no room for a socket's path is refused`() {
        func flaw(_ runtime: String) -> String? {
            Places(socket: "/s", runtimeDirectory: runtime, stateDirectory: "/t").flaw
        }
        #expect(flaw("/run/tdxd") == nil)
        #expect(flaw("/" + String(repeating: "x", count: 60))?.contains("runtime directory") == true)
        #expect(flaw("relative")?.contains("absolute") == true)
    }

    @Test func `a runtime directory has one daemon at a time`() throws {
        let place = try TemporaryDirectory()
        let path = place.path + "/lock"
        func second() -> RuntimeLock.Refused? {
            do {
                _ = try RuntimeLock(path: path)
                return nil
            } catch {
                return error
            }
        }
        let first = try RuntimeLock(path: path)
        #expect(second() == .held(path: path, by: " (pid \(getpid()))"))
        _ = consume first
        #expect(second() == nil)
    }

    @Test func `a holder's record is read back as it was written, and nonsense is none`() throws {
        let place = try TemporaryDirectory()
        var record = Sample.record("web1")
        record.vmCreators = [1, 2]
        record.ending = true
        try DurableFile.write(try record.encoded(), name: Places.record, in: place.path)
        func found(_ directory: String = place.path, _ id: String = record.id) -> DomainRecord.Found {
            DomainRecord.find(in: directory, id: id)
        }
        guard case .record(record) = found() else {
            Issue.record("\(found())")
            return
        }
        guard case .damaged = found(place.path, String(repeating: "0", count: 32)) else {
            Issue.record("another TD's record is taken")
            return
        }
        guard case .missing = found(place.path + "/missing") else {
            Issue.record("a record that is not there")
            return
        }
        var huge = record
        huge.memoryBytes = .max
        for bytes in [Array("{".utf8), [], try huge.encoded()] {
            try DurableFile.write(bytes, name: Places.record, in: place.path)
            guard case .damaged = found() else {
                Issue.record("\(found())")
                return
            }
        }
    }

    @Test func `a group's number is read from its line`() {
        let text = "root:x:0:\ntdx-admin:x:991:alice,bob\nbroken\nodd:x:none:\n"
        #expect(NameNumbers.number(of: "tdx-admin", inText: text) == 991)
        #expect(NameNumbers.number(of: "tdx", inText: text) == nil)
        #expect(NameNumbers.number(of: "odd", inText: text) == nil)
    }
}

@Suite struct WorkerPoolTests {
    @Test func `every job runs, never more at once than the limit`() throws {
        let pool = WorkerPool(name: "test", limit: 3)
        let state = Mutex((running: 0, most: 0, done: 0))
        for _ in 0..<50 {
            pool.submit {
                state.withLock {
                    $0.running += 1
                    $0.most = max($0.most, $0.running)
                }
                usleep(500)
                state.withLock {
                    $0.running -= 1
                    $0.done += 1
                }
            }
        }
        while pool.count > 0 { usleep(1000) }
        #expect(state.withLock { $0.done } == 50)
        #expect(state.withLock { $0.most } <= 3)
    }
}

@Suite struct WorkerPoolThreadTests {
    @Test func `a thread is used again, and goes when nothing comes for a while`() throws {
        let pool = WorkerPool(name: "test", limit: 8, lingerMilliseconds: 200)
        let seen = Mutex<Set<UInt>>([])
        let rounds = 20
        for round in 0..<rounds {
            pool.submit { seen.withLock { _ = $0.insert(UInt(bitPattern: Int(pthread_self()))) } }
            while pool.count > 0 { usleep(100) }
            #expect(pool.threads <= round + 1)
        }
        // On a loaded machine one may have gone before the next job came; then another was made.
        #expect(seen.withLock { $0.count } < rounds)
        let end = MonotonicInstant.now + .seconds(120)
        while pool.threads > 0, .now < end { usleep(10_000) }
        #expect(pool.threads == 0)
        // And it can be had again.
        let isDone = Atomic(false)
        pool.submit { isDone.store(true, ordering: .releasing) }
        while !isDone.load(ordering: .acquiring) { usleep(100) }
    }
}

@Suite struct HolderProgramTests {
    @Test func `the program beside this one is looked for there`() throws {
        let place = try TemporaryDirectory()
        symlink("/nowhere/bin/tdxd", place.path + "/exe")
        #expect(throws: LinuxError.self) { _ = try HolderProgram.beside(executable: place.path + "/exe") }
        try DurableFile.write([], name: "tdx-holder", in: place.path, mode: 0o755)
        symlink(place.path + "/tdxd (deleted)", place.path + "/exe2")
        #expect(try HolderProgram.beside(executable: place.path + "/exe2").path == place.path + "/tdx-holder")
    }
}
