internal import Glibc
internal import HolderLaunch
internal import LinuxSystem
internal import ServiceSupport
internal import SystemPackage

extension HolderLauncher {
    /// Starts the holder of one TD in a session of its own.
    func startHolder(id: String, _ configuration: TDXDConfiguration) throws(Failure) -> HolderProcess {
        try launch(.serve(ServeOrder(id: id, configuration)), within: configuration.deadlines.holderStart)
    }

    /// How a short-lived child ended.
    struct Result: Sendable {
        var output: [UInt8]
        /// Nil where the launcher did not live to report it.
        var exit: ProcessExit?

        /// For people.
        var ending: String { exit.map { "\($0)" } ?? "ended in an unknown way" }
    }

    /// Most that a child may write.
    static let outputLimit = 4 << 20

    /// Runs `tdx-holder` for a moment and reads what it prints.
    ///
    /// - Parameter onLine: each line as it comes.
    /// - Throws: `ETIMEDOUT` after `deadline`, when the child has been killed; `EFBIG` beyond `outputLimit`.
    func run(
        _ order: LaunchRequest.Order, deadline limit: Duration, onLine: (ArraySlice<UInt8>) -> Void = { _ in }
    ) throws(Failure) -> Result {
        let deadline = MonotonicInstant.now + limit
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw .refused(LinuxError("pipe", Errno(rawValue: errno))) }
        let reading = OwnedDescriptor(taking: ends[0])
        let writing = OwnedDescriptor(taking: ends[1])
        let child = try launch(order, output: writing.rawValue, within: limit)
        // The child has its own; ours would keep the pipe open after its end.
        _ = consume writing
        do throws(LinuxError) {
            let output = try Self.readAll(reading, until: deadline, onLine: onLine)
            // It may close its output and go on.
            guard child.waitForEnd(max(.zero, deadline - .now)) != nil else {
                throw LinuxError("poll", .timedOut, detail: "the child is not done")
            }
            return Result(output: output, exit: child.status())
        } catch {
            child.kill()
            throw .refused(error)
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
                throw LinuxError("read", .fileTooLarge, detail: "the child wrote more than \(outputLimit) bytes")
            }
            while let end = output[lineStart...].firstIndex(of: UInt8(ascii: "\n")) {
                onLine(output[lineStart..<end])
                lineStart = end + 1
            }
        }
    }
}
