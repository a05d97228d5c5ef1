import ControlInterface
import Glibc
import LinuxSystem
import SystemPackage
import Testing
import Varlink

/// A real `tdx-holder serve` in a directory of its own. It is killed, and the directory removed, when the test lets go.
final class RunningHolder {
    let directory: String
    var socketPath: String { directory + "/socket" }
    let process: ProcessHandle

    /// How long anything may take on a loaded machine before a test gives up.
    static let patience = Duration.seconds(120)

    init(_ arguments: [String] = []) throws {
        directory = try Self.makeDirectory()
        process = try ProgramStart(
            path: HolderProgramUnderTest.path,
            arguments: ["serve", "--directory", directory, "--log-level", "error"] + arguments, newSession: true
        ).start()
    }

    deinit {
        try? process.send(.kill)
        _ = try? process.wait()
        Self.remove(directory)
    }

    static func makeDirectory() throws -> String {
        var template = Array("/tmp/tdx-holder-test-XXXXXX".utf8CString)
        return try template.withUnsafeMutableBufferPointer { buffer in
            String(cString: try #require(mkdtemp(buffer.baseAddress!)))
        }
    }

    static func remove(_ directory: String) {
        for name in (try? TextFile.list(directory)) ?? [] { unlink("\(directory)/\(name)") }
        rmdir(directory)
    }

    /// Connects as soon as the socket is there.
    func connect() throws -> VarlinkClient {
        try Self.connect(to: socketPath) { try !self.process.hasEnded() }
    }

    static func connect(to path: String, while isAlive: () throws -> Bool) throws -> VarlinkClient {
        var limits = VarlinkLimits()
        limits.descriptors = UnixSocket.maximumDescriptors
        let deadline = MonotonicInstant.now + patience
        while true {
            do {
                return try VarlinkClient.connect(path, limits: limits)
            } catch {
                guard case .unavailable = error, MonotonicInstant.now < deadline, try isAlive() else { throw error }
                usleep(5000)
            }
        }
    }

    /// How the process ended by itself.
    func waitForExit() throws -> ProcessExit {
        #expect(try process.waitUntilEnded(milliseconds: 120_000), "the holder is still there")
        return try process.wait()
    }

    var filesLeft: [String] { (try? TextFile.list(directory)) ?? [] }

    // MARK: Calls

    static func order(
        name: String = "web1", memory: UInt64 = 64 << 20, vcpus: Int = 2, firmware: String? = nil,
        mrOwner: String? = nil
    ) -> HolderInterface.Build.Parameters {
        HolderInterface.Build.Parameters(
            request: CreateRequest(
                name: NewTrustDomainName(unchecked: name), memoryBytes: MemorySize(unchecked: Int64(memory)),
                vcpus: VCPUCount(unchecked: Int64(vcpus)),
                firmware: firmware.map { FirmwarePath(unchecked: $0) },
                mrowner: mrOwner.map { Digest48(unchecked: $0) }),
            reservation: Reservation(
                id: TrustDomainID(unchecked: String(repeating: "c0", count: 16)), keyID: 40, ownerUID: geteuid()))
    }
}

extension VarlinkClient {
    @discardableResult
    func build(
        _ order: HolderInterface.Build.Parameters, image: Int32? = nil, progress: (Progress) -> Void = { _ in }
    ) throws -> HolderInterface.Description {
        var description: HolderInterface.Description?
        try callMore(
            HolderInterface.Build.method, order, as: HolderInterface.Build.Reply.self,
            descriptors: image.map { [$0] } ?? [], timeout: RunningHolder.patience
        ) { reply, isLast in
            if let step = reply.progress { progress(step) }
            if isLast { description = reply.description }
        }
        return try #require(description)
    }

    func describe() throws -> HolderInterface.Description {
        try call(
            HolderInterface.Describe.method, as: HolderInterface.Describe.Reply.self, timeout: RunningHolder.patience
        ).description
    }

    @discardableResult
    func convert(_ gpa: UInt64, _ bytes: UInt64, to side: MemorySide) throws -> HolderInterface.Convert.Reply {
        try call(
            HolderInterface.Convert.method,
            HolderInterface.Convert.Parameters(
                gpa: PageAddress(unchecked: Int64(gpa)), bytes: PageSpan(unchecked: Int64(bytes)), to: side),
            timeout: RunningHolder.patience)
    }

    func runs() throws -> [MemoryRun] {
        try call(HolderInterface.Map.method, as: HolderInterface.Map.Reply.self, timeout: RunningHolder.patience).runs
    }

    func stop(progress: (Progress) -> Void = { _ in }) throws -> HolderInterface.Stop.Reply {
        var last: HolderInterface.Stop.Reply?
        try callMore(
            HolderInterface.Stop.method, as: HolderInterface.Stop.Reply.self, timeout: RunningHolder.patience
        ) { reply, isLast in
            if let step = reply.progress { progress(step) }
            if isLast { last = reply }
        }
        return try #require(last)
    }
}

/// What a call failed with, as the contract's error.
func controlError(_ body: () throws -> some Any) -> ControlError? {
    do {
        _ = try body()
        return nil
    } catch VarlinkClientError.reply(let reply) {
        return ControlError(reply)
    } catch {
        return nil
    }
}
