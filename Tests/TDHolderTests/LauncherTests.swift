import ControlInterface
import FoundationEssentials
import Glibc
import HolderLaunch
import LinuxSystem
import ServiceSupport
import SystemPackage
import Testing

@testable import TDHolder

/// The real launcher, and this test in tdxd's place.
private final class RunningLauncher {
    let directory: String
    let process: ProcessHandle
    private var socket: OwnedDescriptor?

    struct Answer {
        var answer: LaunchAnswer
        var descriptor: RetainedDescriptor?
    }

    init() throws {
        directory = try RunningHolder.makeDirectory()
        #expect(mkdir(directory + "/holders", 0o700) == 0)
        let pair = try UnixSocket.packetPair()
        process = try ProgramStart(
            path: HolderProgramUnderTest.path, arguments: ["launch", "--runtime-directory", directory],
            environment: LaunchPlaces.environment, descriptors: [(source: pair.second.rawValue, target: 3)]
        ).start()
        socket = pair.takeFirst()
        guard case .ready = try next().answer else {
            Issue.record("it does not say that it is ready")
            return
        }
    }

    deinit {
        // Whoever waits for any child of the test process, as exit tests do, must not find this one for ever.
        try? process.send(.kill)
        _ = try? process.wait()
        RunningHolder.remove(directory + "/holders")
        RunningHolder.remove(directory)
    }

    func close() { socket = nil }

    func send(_ bytes: [UInt8], _ descriptors: [Int32] = []) throws {
        guard socket != nil else { return }
        _ = try UnixSocket.send(bytes[...], descriptors: descriptors, on: socket!)
    }

    func send(_ number: UInt64, _ order: LaunchRequest.Order, _ descriptors: [Int32] = []) throws {
        try send(LaunchRequest(number: number, order: order).encoded(), descriptors)
    }

    func next() throws -> Answer {
        let deadline = MonotonicInstant.now + .seconds(120)
        while true {
            guard try UnixSocket.wait(for: .reading, on: socket!, until: deadline) else {
                throw LinuxError("recvmsg", .timedOut, detail: "the launcher's answer")
            }
            switch try UnixSocket.receive(upTo: 8192, maximumDescriptors: 4, from: socket!) {
            case .wouldBlock: continue
            case .endOfStream: throw LinuxError("recvmsg", .connectionReset, detail: "the launcher has closed its end")
            case .bytes(let bytes, let descriptors):
                var descriptor: RetainedDescriptor?
                if let passed = descriptors.takeFirst() { descriptor = RetainedDescriptor(passed) }
                return Answer(answer: try LaunchAnswer(decoding: bytes), descriptor: descriptor)
            }
        }
    }

    /// Has a process started.
    func start(_ number: UInt64, _ order: LaunchRequest.Order, _ descriptors: [Int32] = []) throws -> ProcessHandle {
        try send(number, order, descriptors)
        let answer = try next()
        guard case .started(number, let pid) = answer.answer else {
            throw LinuxError("launch", .invalidArgument, detail: "\(answer.answer)")
        }
        return ProcessHandle(pid: pid, taking: try #require(answer.descriptor).duplicate())
    }

    func makeHolderDirectory(_ digit: String) -> ServeOrder {
        let id = String(repeating: digit, count: 32)
        #expect(mkdir("\(directory)/holders/\(id)", 0o700) == 0)
        var configuration = TDXDConfiguration()
        configuration.backends.backend = .memfd
        configuration.teardown.lastWill = .no
        return ServeOrder(id: id, configuration)
    }

    func socketOf(_ order: ServeOrder) -> String { "\(directory)/holders/\(order.id)/socket" }
}

private func serves(_ socket: String) -> Bool {
    let end = MonotonicInstant.now + .seconds(120)
    while MonotonicInstant.now < end {
        if UnixSocket.isAnswering(socket) { return true }
        usleep(10_000)
    }
    return false
}

@Suite struct `The launcher of holders` {
    @Test func `starts a holder, passes its pidfd, and tells how it ended`() throws {
        let launcher = try RunningLauncher()
        let order = launcher.makeHolderDirectory("a")
        let holder = try launcher.start(1, .serve(order))
        #expect(serves(launcher.socketOf(order)))
        #expect(try TextFile.read("/proc/\(holder.pid)/cmdline").contains("holders/\(order.id)"))
        #expect(try !holder.hasEnded())
        try holder.send(.kill)
        guard case .ended(1, .killed(by: .kill, coreDumped: _)) = try launcher.next().answer else {
            Issue.record("another answer")
            return
        }
        #expect(try holder.hasEnded())
        RunningHolder.remove("\(launcher.directory)/holders/\(order.id)")
    }

    @Test func `gives the host's report to the pipe that came along, and its exit status here`() throws {
        let launcher = try RunningLauncher()
        var ends: [Int32] = [-1, -1]
        try #require(pipe(&ends) == 0)
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let reading = OwnedDescriptor(taking: ends[0])
        var writing: OwnedDescriptor? = OwnedDescriptor(taking: ends[1])
        _ = try launcher.start(9, .probe(.memfd), [ends[1]])
        writing = nil
        _ = writing
        var output: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(reading.rawValue, &chunk, chunk.count)
            guard count > 0 else { break }
            output += chunk[..<count]
        }
        #expect(try JSONDecoder().decode(HostReport.self, from: Data(output)).backend == .memfd)
        #expect(try launcher.next().answer == .ended(number: 9, .exited(status: 0)))
    }

    @Test func `refuses what it does not understand, and goes on`() throws {
        let launcher = try RunningLauncher()
        try launcher.send(Array("nonsense".utf8))
        try launcher.send(Array("{\"number\":3,\"serve\":{\"id\":\"../x\"}}".utf8))
        guard case .refused(3, let error) = try launcher.next().answer else {
            Issue.record("another answer")
            return
        }
        #expect(error.errno == .invalidArgument)
        // A probe without its pipe.
        try launcher.send(4, .probe(.memfd))
        guard case .refused(4, let missing) = try launcher.next().answer else {
            Issue.record("another answer")
            return
        }
        #expect(missing.errno == .badFileDescriptor)
        // More than a request has.
        try launcher.send(5, .probe(.memfd), [0, 0, 0])
        try launcher.send([UInt8](repeating: 0x20, count: 20_000))
        let order = launcher.makeHolderDirectory("b")
        let holder = try launcher.start(6, .serve(order))
        #expect(serves(launcher.socketOf(order)))
        // Nothing that was passed in vain stays: 0, 1, 2, the socket, epoll, its wake-up and the signals.
        #expect(try TextFile.list("/proc/\(launcher.process.pid)/fd").count <= 8)
        try holder.send(.kill)
        _ = try launcher.next()
        RunningHolder.remove("\(launcher.directory)/holders/\(order.id)")
    }

    @Test func `ends with its socket, and what it has started goes on`() throws {
        let launcher = try RunningLauncher()
        let order = launcher.makeHolderDirectory("c")
        let holder = try launcher.start(1, .serve(order))
        #expect(serves(launcher.socketOf(order)))
        launcher.close()
        #expect(try launcher.process.waitUntilEnded(milliseconds: 120_000))
        #expect(try launcher.process.wait() == .exited(status: 0))
        #expect(try !holder.hasEnded())
        #expect(UnixSocket.isAnswering(launcher.socketOf(order)))
        try holder.send(.kill)
        #expect(try holder.waitUntilEnded(milliseconds: 120_000))
        RunningHolder.remove("\(launcher.directory)/holders/\(order.id)")
    }

    @Test func `has one thread, one filter more than whoever started it, and no descriptor too many`() throws {
        let launcher = try RunningLauncher()
        func filters(_ pid: Int32) throws -> Int? {
            try TextFile.read("/proc/\(pid)/status").split(separator: "\n").first { $0.hasPrefix("Seccomp_filters:") }
                .flatMap { Int($0.split(separator: "\t").last ?? "") }
        }
        let pid = launcher.process.pid
        #expect(try TextFile.list("/proc/\(pid)/task").count == 1)
        if let own = try filters(getpid()) { #expect(try filters(pid) == own + 1) }
        #expect(try TextFile.read("/proc/\(pid)/status").contains("NoNewPrivs:\t1"))
        #expect(try TextFile.list("/proc/\(pid)/fd").count <= 7)
    }
}
