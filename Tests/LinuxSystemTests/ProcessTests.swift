import LinuxSystem
import MemoryUnits
import Synchronization
import SystemPackage
import Testing

struct ProcessTests {
    @Test func `a program's exit status is reported, and it is reaped once`() throws {
        let child = try ProgramStart(path: "/bin/sh", arguments: ["-c", "exit 7"]).start()
        #expect(try child.wait() == .exited(status: 7))
        #expect(throws: LinuxError.self) { _ = try child.wait() }
    }

    @Test func `a signal ends a program, and the pidfd becomes readable`() throws {
        let child = try ProgramStart(path: "/bin/sleep", arguments: ["1000"]).start()
        #expect(try !child.hasEnded())
        #expect(try child.exitIfEnded() == nil)
        try child.send(.kill)
        #expect(try child.waitUntilEnded(milliseconds: 60_000))
        #expect(try child.wait() == .killed(by: .kill, coreDumped: false))
    }

    @Test(arguments: [
        ("/nonexistent/program", Errno.noSuchFileOrDirectory), ("/etc/passwd", Errno.permissionDenied),
        ("/", Errno.permissionDenied),
    ])
    func `a program that cannot run is reported with execve's errno`(path: String, expected: Errno) {
        #expect { _ = try ProgramStart(path: path).start() } throws: { ($0 as? LinuxError)?.errno == expected }
    }

    @Test func `the child sees the descriptors listed and no others`() throws {
        let stray = try MemoryFile(name: "stray", size: ByteCount(4096)).duplicateDescriptor()
        try stray.setCloseOnExec(false)
        let output = try MemoryFile(name: "output", size: .kibibytes(64))
        let target = try output.duplicateDescriptor()
        // The sources are crossed over with the targets: 5 and 6 must not overwrite each other.
        let a = try MemoryFile(name: "aaa", size: ByteCount(4096)).duplicateDescriptor()
        let b = try MemoryFile(name: "bbb", size: ByteCount(4096)).duplicateDescriptor()
        let child = try ProgramStart(
            path: "/bin/sh",
            arguments: ["-c", "for f in /proc/$$/fd/*; do echo \"${f##*/} $(readlink $f)\"; done"],
            environment: ["PATH=/bin:/usr/bin"],
            descriptors: [(target.rawValue, 1), (a.rawValue, b.rawValue), (b.rawValue, a.rawValue)]
        ).start()
        #expect(try child.wait() == .exited(status: 0))
        let text = String(decoding: try target.read(count: 4096, at: .zero).prefix { $0 != 0 }, as: UTF8.self)
        #expect(text.contains("\(b.rawValue) /memfd:aaa"))
        #expect(text.contains("\(a.rawValue) /memfd:bbb"))
        #expect(!text.contains("stray"))
    }

    @Test func `the child gets exactly the environment, directory and session asked for`() throws {
        let output = try MemoryFile(name: "output", size: .kibibytes(4)).duplicateDescriptor()
        let child = try ProgramStart(
            path: "/bin/sh",
            arguments: ["-c", "pwd; echo $GREETING; echo ${HOME-none}; cut -d' ' -f6 /proc/$$/stat; echo $$"],
            environment: ["GREETING=hello", "PATH=/bin:/usr/bin"], workingDirectory: "/usr",
            descriptors: [(output.rawValue, 1)], newSession: true
        ).start()
        #expect(try child.wait() == .exited(status: 0))
        let text = String(decoding: try output.read(count: 4096, at: .zero).prefix { $0 != 0 }, as: UTF8.self)
        #expect(text == "/usr\nhello\nnone\n\(child.pid)\n\(child.pid)\n")
    }

    @Test func `blocked signals of the parent are not blocked in the child`() throws {
        let output = try MemoryFile(name: "output", size: .kibibytes(4)).duplicateDescriptor()
        let number = output.rawValue
        let failure = Mutex<(any Error)?>(nil)
        // On a thread of its own, whose mask goes with it.
        let thread = try SystemThread(name: "blocker") {
            do {
                try Signals.block([.terminate, .user2])
                let child = try ProgramStart(
                    path: "/bin/grep", arguments: ["SigBlk", "/proc/self/status"], descriptors: [(number, 1)]
                ).start()
                _ = try child.wait()
            } catch {
                failure.withLock { $0 = error }
            }
        }
        thread.join()
        #expect(failure.withLock { $0 } == nil)
        let text = String(decoding: try output.read(count: 4096, at: .zero).prefix { $0 != 0 }, as: UTF8.self)
        #expect(text == "SigBlk:\t0000000000000000\n")
    }

    @Test func `more descriptors than the door takes are refused before anything starts`() {
        let start = ProgramStart(path: "/bin/true", descriptors: (0..<65).map { (0, 100 + $0) })
        #expect { _ = try start.start() } throws: { ($0 as? LinuxError)?.errno == .argListTooLong }
    }

    @Test func `a blocked signal arrives through the signal source`() throws {
        let seen = Mutex<SignalSource.Event?>(nil)
        let thread = try SystemThread(name: "signals") {
            guard let source = try? SignalSource([.user2]) else { return }
            guard (try? source.next()) == .some(nil) else { return }
            try? CurrentProcess.signal(thread: CurrentProcess.threadID, .user2)
            let event = try? source.next()
            seen.withLock { $0 = event ?? nil }
        }
        thread.join()
        let event = try #require(seen.withLock { $0 })
        #expect(event.signal == .user2)
        #expect(event.senderPID == CurrentProcess.pid)
    }

    @Test func `an alarm interrupts a call that would block for ever`() throws {
        let interrupted = Mutex(false)
        let thread = try SystemThread(name: "alarm") {
            guard let alarm = try? ThreadAlarm(milliseconds: 1) else { return }
            let output = try? MemoryFile(name: "x", size: ByteCount(4096))
            _ = output
            // pause(2) returns only for a signal.
            pauseUntilSignal()
            interrupted.withLock { $0 = alarm.hasPassed }
        }
        thread.join()
        #expect(interrupted.withLock { $0 })
    }

    @Test func `a process can be held by number, and one that does not exist cannot`() throws {
        let me = try ProcessHandle(pid: CurrentProcess.pid)
        #expect(try !me.hasEnded())
        // The highest process number that Linux can give is below 2^22.
        #expect { _ = try ProcessHandle(pid: 1 << 22) } throws: {
            [.noSuchProcess, .invalidArgument].contains(($0 as? LinuxError)?.errno)
        }
    }
}
