import Glibc
import HolderLaunch
import LinuxSystem
import ServiceSupport
import Synchronization
import SystemPackage
import Testing

@testable import TDXDaemon

/// What stands where the launcher is: it does with each request what the test says.
private final class StandInLauncher: Sendable {
    struct Request {
        var number: UInt64
        var order: LaunchRequest.Order
        var descriptor: RetainedDescriptor?
    }

    private let socket: RetainedDescriptor
    let launcher: HolderLauncher

    /// - Parameter answer: run on a thread of its own for each request.
    init(isReady: Bool = true, answer: @escaping @Sendable (StandInLauncher, Request) -> Void) throws {
        let pair = try UnixSocket.packetPair()
        let other = RetainedDescriptor(try pair.second.duplicate())
        socket = other
        launcher = HolderLauncher(socket: pair.takeFirst())
        if isReady { say(.ready(fence: "none: a test")) }
        _ = try SystemThread(name: "stand-in") { [self] in
            while let request = next() { answer(self, request) }
        }
    }

    private func next() -> Request? {
        while true {
            guard (try? UnixSocket.wait(for: .reading, on: socket.descriptor, until: nil)) == true,
                let received = try? UnixSocket.receive(upTo: 8192, maximumDescriptors: 2, from: socket.descriptor)
            else { return nil }
            switch received {
            case .wouldBlock: continue
            case .endOfStream: return nil
            case .bytes(let bytes, let descriptors):
                guard let request = try? LaunchRequest(decoding: bytes) else { return nil }
                var descriptor: RetainedDescriptor?
                if let passed = descriptors.takeFirst() { descriptor = RetainedDescriptor(passed) }
                return Request(number: request.number, order: request.order, descriptor: descriptor)
            }
        }
    }

    func say(_ answer: LaunchAnswer, _ descriptors: [Int32] = []) {
        _ = try? UnixSocket.send(answer.encoded()[...], descriptors: descriptors, on: socket.descriptor)
    }

    func close() { UnixSocket.shutdown(socket.descriptor) }

    /// Starts a shell, says so and, once it has ended, how.
    func run(_ text: String, for request: Request, tellsEnd: Bool = true) {
        var start = ProgramStart(path: "/bin/sh", arguments: ["-c", text], environment: ["PATH=/usr/bin:/bin"])
        if let descriptor = request.descriptor { start.descriptors = [(source: descriptor.rawValue, target: 1)] }
        guard let child = try? start.start() else {
            return say(.refused(number: request.number, LinuxError("fork", .noMemory)))
        }
        say(.started(number: request.number, pid: child.pid), [child.descriptor.rawValue])
        let box = Kept(child)
        let number = request.number
        _ = try? SystemThread(name: "stand-in wait") { [self] in
            guard let exit = try? box.handle.wait(), tellsEnd else { return }
            say(.ended(number: number, exit))
        }
    }

    private final class Kept: Sendable {
        let handle: ProcessHandle
        init(_ handle: consuming ProcessHandle) { self.handle = handle }
    }
}

@Suite struct `The daemon's end of the launcher` {
    private static func failure(_ body: () throws -> Void) -> HolderLauncher.Failure? {
        do {
            try body()
            return nil
        } catch {
            return error as? HolderLauncher.Failure
        }
    }

    @Test func `a child's lines come one by one, with its end`() throws {
        let stand = try StandInLauncher { $0.run("echo one; echo two; exit 3", for: $1) }
        #expect(try stand.launcher.connect(within: .seconds(120)) == "none: a test")
        var lines: [String] = []
        let result = try stand.launcher.run(.probe(.memfd), deadline: .seconds(120)) {
            lines.append(String(decoding: $0, as: UTF8.self))
        }
        #expect(lines == ["one", "two"])
        #expect(result.exit == .exited(status: 3))
        #expect(String(decoding: result.output, as: UTF8.self) == "one\ntwo\n")
    }

    @Test func `a child that is not done in time, or says too much, is killed`() throws {
        let stand = try StandInLauncher {
            if case .probe = $1.order {
                $0.run("exec sleep 1000", for: $1)
            } else {
                $0.run("exec cat /dev/zero", for: $1)
            }
        }
        _ = try stand.launcher.connect(within: .seconds(120))
        let late = Self.failure { _ = try stand.launcher.run(.probe(.memfd), deadline: .seconds(1)) }
        guard case .refused(let error)? = late, error.errno == .timedOut else {
            Issue.record("\(String(describing: late))")
            return
        }
        let loud = Self.failure { _ = try stand.launcher.run(.selfTest(.memfd), deadline: .seconds(120)) }
        guard case .refused(let error)? = loud, error.errno == .fileTooLarge else {
            Issue.record("\(String(describing: loud))")
            return
        }
    }

    @Test func `an end is told with its status, to those who wait and those who look`() throws {
        let stand = try StandInLauncher { $0.run("exec sleep 1000", for: $1) }
        _ = try stand.launcher.connect(within: .seconds(120))
        let process = try stand.launcher.launch(.probe(.memfd), output: 1, within: .seconds(120))
        #expect(process.wasStartedHere && process.exitIfEnded() == nil && process.exitIfKnown(evenUnknown: true) == nil)
        process.kill()
        #expect(process.waitForEnd(.seconds(120)) == "holder process \(process.pid) killed by SIGKILL")
        #expect(process.exitIfKnown(evenUnknown: false) == "holder process \(process.pid) killed by SIGKILL")
        #expect(process.status() == .killed(by: .kill, coreDumped: false))
    }

    @Test func `an end whose status nobody tells is an end all the same`() throws {
        let stand = try StandInLauncher { $0.run("exit 3", for: $1, tellsEnd: false) }
        _ = try stand.launcher.connect(within: .seconds(120))
        let process = try stand.launcher.launch(.probe(.memfd), output: 1, within: .seconds(120))
        #expect(process.waitForEnd(.seconds(120)) == "holder process \(process.pid) has ended")
        // A launcher that has ended will tell nothing: nobody waits for it.
        let other = try stand.launcher.launch(.probe(.memfd), output: 1, within: .seconds(120))
        stand.close()
        #expect(other.waitForEnd(.seconds(120)) == "holder process \(other.pid) has ended")
    }

    @Test func `a process that was found has an end without a status`() throws {
        let child = try ProgramStart(path: "/bin/sh", arguments: ["-c", "exit 3"]).start()
        let found = HolderProcess(try ProcessHandle(pid: child.pid))
        #expect(!found.wasStartedHere)
        #expect(found.waitForEnd(.seconds(120)) == "holder process \(child.pid) has ended")
        _ = try child.wait()
    }

    @Test func `a launcher that does not answer is told from one that refuses, and a late holder is killed`() throws {
        let held = Monitor<[StandInLauncher.Request]>([])
        let stand = try StandInLauncher { stand, request in
            if case .selfTest = request.order {
                stand.say(.refused(number: request.number, LinuxError("execve", .noSuchFileOrDirectory, detail: "/x")))
            } else {
                held.update { $0.append(request) }
            }
        }
        _ = try stand.launcher.connect(within: .seconds(120))
        #expect(
            Self.failure { _ = try stand.launcher.launch(.probe(.memfd), output: 1, within: .milliseconds(200)) }
                == .silent(.milliseconds(200)))
        #expect(
            Self.failure { _ = try stand.launcher.launch(.selfTest(.memfd), output: 1, within: .seconds(120)) }
                == .refused(LinuxError("execve", .noSuchFileOrDirectory, detail: "/x")))
        // What comes now is wanted by nobody.
        let request = try #require(held.wait(milliseconds: 120_000) { $0.first })
        let child = try ProgramStart(path: "/bin/sh", arguments: ["-c", "exec sleep 1000"]).start()
        stand.say(.started(number: request.number, pid: child.pid), [child.descriptor.rawValue])
        #expect(try child.waitUntilEnded(milliseconds: 120_000))
        #expect(try child.wait() == .killed(by: .kill, coreDumped: false))
    }

    @Test func `a launcher that has ended is known, by those who wait and those who come later`() throws {
        let stand = try StandInLauncher { stand, _ in stand.close() }
        _ = try stand.launcher.connect(within: .seconds(120))
        #expect(!stand.launcher.hasEnded)
        for _ in 0..<2 {
            #expect(
                Self.failure { _ = try stand.launcher.launch(.probe(.memfd), output: 1, within: .seconds(120)) }
                    == .ended)
        }
        #expect(stand.launcher.hasEnded)
        #expect("\(HolderLauncher.Failure.ended)" == "the launcher of holders has ended")
    }

    @Test func `one that does not get ready is no launcher`() throws {
        let silent = try StandInLauncher(isReady: false) { _, _ in }
        #expect(
            Self.failure { _ = try silent.launcher.connect(within: .milliseconds(200)) } == .silent(.milliseconds(200)))
        let gone = try StandInLauncher(isReady: false) { _, _ in }
        gone.close()
        #expect(Self.failure { _ = try gone.launcher.connect(within: .seconds(120)) } == .ended)
    }

    @Test func `many requests at a time each get their own answer`() throws {
        let stand = try StandInLauncher { stand, request in
            guard case .probe(let backend) = request.order else { return }
            stand.run("exit \(TDXDConfiguration.BackendChoice.allCases.firstIndex(of: backend)! + 1)", for: request)
        }
        _ = try stand.launcher.connect(within: .seconds(120))
        let wrong = Mutex<[String]>([])
        let threads = try (0..<12).map { number in
            try SystemThread(name: "ask") {
                let choices = TDXDConfiguration.BackendChoice.allCases
                let place = number % choices.count
                do {
                    let result = try stand.launcher.run(.probe(choices[place]), deadline: .seconds(240))
                    if result.exit != .exited(status: Int32(place + 1)) {
                        wrong.withLock { $0.append("\(number): \(result.ending)") }
                    }
                } catch {
                    wrong.withLock { $0.append("\(number): \(error)") }
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(wrong.withLock { $0 } == [])
    }
}
