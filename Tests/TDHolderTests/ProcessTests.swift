import CLinux
import ControlInterface
import Glibc
import LinuxSystem
import MemoryUnits
import Synchronization
import Testing
import Varlink

@testable import TDHolder

@Suite struct `A holder among processes` {
    @Test func `One that nobody gives work leaves by itself`() throws {
        let holder = try RunningHolder(["--backend", "memfd", "--idle-timeout", "1"])
        #expect(try holder.waitForExit() == .exited(status: 0))
        #expect(holder.filesLeft.isEmpty)
    }

    @Test func `A failed build is not kept for ever`() throws {
        let holder = try RunningHolder(["--backend", "memfd", "--idle-timeout", "1"])
        let client = try holder.connect()
        _ = controlError { try client.build(RunningHolder.order(vcpus: 1024)) }
        #expect(try holder.waitForExit() == .exited(status: 0))
    }

    @Test(arguments: testedBackends)
    func `SIGTERM ends the TD in order, and its memory is back`(_ backend: Backend) throws {
        let holder = try RunningHolder(["--backend", backend.rawValue])
        let client = try holder.connect()
        try client.build(RunningHolder.order())
        let answer = try client.callWithDescriptors(
            HolderInterface.GetBacking.method, as: HolderInterface.GetBacking.Reply.self,
            timeout: RunningHolder.patience)
        var files: [RetainedDescriptor] = []
        while let file = answer.descriptors.takeFirst() {
            try FileMemory.allocate(descriptor: file.rawValue, offset: .zero, length: .mebibytes(2))
            files.append(RetainedDescriptor(file))
        }
        try holder.process.send(.terminate)
        #expect(try holder.waitForExit() == .exited(status: 0))
        #expect(holder.filesLeft == ["end.json"])
        #expect(!files.isEmpty)
        for file in files where canCountPages {
            #expect(try FileMemory.residentBytes(descriptor: file.rawValue) == .zero)
        }
    }

    @Test func `The socket is its user's alone, and the process is under a filter`() throws {
        let holder = try RunningHolder(["--backend", "memfd"])
        _ = try holder.connect().describe()
        let status = try FileStatus(ofPath: holder.socketPath)
        #expect(status.kind == .socket && status.permissions == 0o600)
        let text = try TextFile.read("/proc/\(holder.process.pid)/status")
        #expect(
            text.contains("Seccomp:\t2\n") && text.contains("NoNewPrivs:\t1\n") && text.contains("Name:\ttdx-holder\n"))
    }

    @Test(.enabled(if: geteuid() == 0, "only root can be another user for a moment"))
    func `Another user who reaches the socket is refused every call`() throws {
        let holder = try RunningHolder(["--backend", "memfd"])
        _ = try holder.connect().describe()
        #expect(chmod(holder.directory, 0o755) == 0 && chmod(holder.socketPath, 0o666) == 0)
        let path = holder.socketPath
        let answers = Mutex<[ControlError?]>([])
        // Credentials belong to a thread as far as the kernel is concerned: this one becomes nobody and ends.
        try SystemThread(name: "nobody") {
            guard tdxd_raw_call(117, -1, 65534, -1) == 0 else { return }  // setresuid(2)
            for method in ["Describe", "Map", "GetBacking", "Stop"] {
                let error = controlError {
                    try VarlinkClient.connect(path).call(
                        "io.tdxd.Holder.\(method)", as: HolderInterface.Describe.Reply.self)
                }
                answers.withLock { $0.append(error) }
            }
        }.join()
        let refusal = ControlError.notPermitted(needed: "root", reason: "the caller has uid 65534")
        #expect(answers.withLock { $0 } == Array(repeating: refusal, count: 4))
        #expect(try holder.connect().describe().state == .empty)
    }

    @Test func `It lives on when the process that started it is gone`() throws {
        let scratch = try RunningHolder.makeDirectory()
        defer { RunningHolder.remove(scratch) }
        let program = HolderProgramUnderTest.path
        let shell = try #require(
            popen(
                "'\(program)' serve --directory \(scratch) --backend memfd --log-level critical >/dev/null 2>&1 & echo $!",
                "r"))
        var line = [CChar](repeating: 0, count: 32)
        _ = fgets(&line, 32, shell)
        pclose(shell)
        let pid = try #require(Int32(String(decoding: line.prefix { $0 > 32 }.map(UInt8.init), as: UTF8.self)))
        let process = try ProcessHandle(pid: pid)
        defer { try? process.send(.kill) }
        let client = try RunningHolder.connect(to: scratch + "/socket") { try !process.hasEnded() }
        try client.build(RunningHolder.order())
        #expect(try client.describe().pid == pid)
        #expect(try client.stop().failure == nil)
        #expect(try process.waitUntilEnded(milliseconds: 120_000))
    }

    @Test func `A backend that this host lacks keeps it from starting`() throws {
        // No machine offers a backend that needs a device which is not there.
        let holder = try RunningHolder(["--backend", "tdx", "--kvm-device", "/dev/null"])
        #expect(try holder.waitForExit() == .exited(status: 1))
        #expect(holder.filesLeft.isEmpty)
    }

    /// What a client may say that is no call.
    struct Noise: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var bytes: [UInt8]

        init(_ name: String, _ text: String) {
            testDescription = name
            bytes = Array(text.utf8)
        }

        static let all = [
            Noise("an empty message", "\0"), Noise("no method", "{}\0"), Noise("no JSON", "not json\0"),
            Noise("wrong types", "{\"method\":\"io.tdxd.Holder.Build\",\"parameters\":{\"name\":7}}\0"),
            Noise("an unknown method", "{\"method\":\"io.tdxd.Holder.Nothing\"}\0"), Noise("half a message", "[[[["),
            Noise("deep nesting", String(repeating: "[", count: 100_000) + "\0"),
        ]
    }

    @Test(arguments: Noise.all)
    func `Whatever a client says, the next one is served`(_ noise: Noise) throws {
        let holder = try RunningHolder(["--backend", "memfd"])
        _ = try holder.connect().describe()
        let socket = try UnixSocket.connect(to: holder.socketPath)
        _ = try UnixSocket.send(noise.bytes[...], on: socket)
        let client = try holder.connect()
        #expect(try client.describe().state == .empty)
        try client.build(RunningHolder.order())
        #expect(try client.stop().failure == nil)
        #expect(try holder.waitForExit() == .exited(status: 0), "the client that broke off does not hold the end up")
    }
}
