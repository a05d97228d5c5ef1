internal import ControlInterface
internal import Glibc
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import ServiceSupport
internal import SystemPackage

/// The program `tdx-holder` and how it is started.
struct HolderProgram: Sendable {
    /// An absolute path.
    let path: String

    /// `tdx-holder` beside the running program.
    static func beside(executable link: String = "/proc/self/exe") throws(LinuxError) -> Self {
        let own = try TextFile.linkTarget(link)
        // The kernel marks a program that was replaced while it runs, as an upgrade does.
        let plain = own.hasSuffix(" (deleted)") ? String(own.dropLast(10)) : own
        let directory = plain.lastIndex(of: "/").map { String(plain[..<$0]) } ?? ""
        let program = directory + "/tdx-holder"
        guard access(program, X_OK) == 0 else {
            throw LinuxError("access", Errno(rawValue: errno), detail: program)
        }
        return Self(path: program)
    }

    /// Starts the holder of one TD in a session of its own.
    func start(directory: String, _ configuration: TDXDConfiguration) throws(LinuxError) -> HolderProcess {
        let chunk = configuration.memory.releaseChunk.rawValue >> 20
        // The holder's directory bears the TD's id.
        let trace = configuration.backends.emulatedTraces.map {
            ["--trace", Places.trace(of: String(directory.split(separator: "/").last ?? "td"), in: $0)]
        }
        let program = ProgramStart(
            path: path,
            arguments: [
                "serve", "--directory", directory, "--backend", configuration.backends.backend.rawValue,
                "--release-chunk", String(chunk - chunk % 2),
                "--emulated-terminate", configuration.backends.emulatedTerminate.rawValue, "--log-level",
                configuration.service.logLevel.rawValue,
            ] + Self.lastWill(configuration) + Self.trials(configuration) + (trace ?? []),
            environment: Self.environment,
            workingDirectory: "/", descriptors: [], newSession: true)
        return HolderProcess(try program.start(), isChild: true)
    }

    /// What an emulated backend is to do wrong.
    private static func trials(_ configuration: TDXDConfiguration) -> [String] {
        let phase = configuration.backends.emulatedPauseAt
        let removal = configuration.backends.emulatedFailingRemoval
        return (phase == .none ? [] : ["--emulated-pause-at", phase.rawValue])
            + (configuration.backends.emulatedStuckVCPU == .yes ? ["--emulated-stuck-vcpu"] : [])
            + (configuration.backends.emulatedPreFault == .no ? ["--emulated-without-pre-fault"] : [])
            + (removal.map { ["--emulated-failing-removal", String($0)] } ?? [])
    }

    private static func lastWill(_ configuration: TDXDConfiguration) -> [String] {
        guard configuration.teardown.lastWill == .yes else { return [] }
        return ["--last-will"] + (configuration.backends.emulatedLastWill == .yes ? ["--emulated-last-will"] : [])
    }

    /// How a short-lived child ended.
    struct Result: Sendable {
        var output: [UInt8]
        var exit: ProcessExit
    }

    /// Most that a child may say.
    static let outputLimit = 4 << 20

    /// Runs `tdx-holder` for a moment and reads what it prints.
    ///
    /// - Parameter onLine: each line as it comes.
    /// - Throws: `ETIMEDOUT` after `deadline`, when the child has been killed; `EFBIG` beyond `outputLimit`.
    func run(
        _ arguments: [String], deadline: Duration, onLine: (ArraySlice<UInt8>) -> Void = { _ in }
    ) throws(LinuxError) -> Result {
        var ends: [Int32] = [-1, -1]
        // Other children get only what they are given, so that none keeps an end of the pipe.
        guard pipe(&ends) == 0 else { throw LinuxError("pipe", Errno(rawValue: errno)) }
        let reading = OwnedDescriptor(taking: ends[0])
        let writing = OwnedDescriptor(taking: ends[1])
        let program = ProgramStart(
            path: path, arguments: arguments, environment: Self.environment, workingDirectory: "/",
            descriptors: [(source: writing.rawValue, target: 1)], newSession: true)
        let child = try program.start()
        // The child has its own; ours would keep the pipe open behind its end.
        _ = consume writing
        do throws(LinuxError) {
            let output = try Self.readAll(reading, until: MonotonicInstant.now + deadline, onLine: onLine)
            return Result(output: output, exit: try child.wait())
        } catch {
            try? child.send(.kill)
            _ = try? child.wait()
            throw error
        }
    }

    private static func readAll(
        _ descriptor: borrowing OwnedDescriptor, until deadline: MonotonicInstant, onLine: (ArraySlice<UInt8>) -> Void
    ) throws(LinuxError) -> [UInt8] {
        var output: [UInt8] = []
        var lineStart = 0
        var chunk = [UInt8](repeating: 0, count: 1 << 14)
        while true {
            var waiting = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
            let ready = poll(&waiting, 1, deadline.pollTimeout(from: .now))
            if ready < 0 && errno == EINTR { continue }
            guard ready > 0 else { throw LinuxError("poll", .timedOut, detail: "the child is not done") }
            let count = read(descriptor.rawValue, &chunk, chunk.count)
            if count < 0 {
                if errno == EINTR { continue }
                throw LinuxError("read", Errno(rawValue: errno), detail: "the child's output")
            }
            if count == 0 { return output }
            output.append(contentsOf: chunk[..<count])
            guard output.count <= outputLimit else {
                throw LinuxError("read", .fileTooLarge, detail: "the child says more than \(outputLimit) bytes")
            }
            while let end = output[lineStart...].firstIndex(of: UInt8(ascii: "\n")) {
                onLine(output[lineStart..<end])
                lineStart = end + 1
            }
        }
    }

    /// What children get of this process's environment: where to log, and nothing that is meant for tdxd alone.
    private static var environment: [String] {
        var result = ["PATH=/usr/bin:/bin"]
        for name in ["JOURNAL_STREAM", "LANG", "LLVM_PROFILE_FILE", "TSAN_OPTIONS", "ASAN_OPTIONS"] {
            if let value = getenv(name) { result.append("\(name)=\(String(cString: value))") }
        }
        return result
    }
}
