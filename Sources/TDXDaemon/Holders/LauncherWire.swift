internal import HolderLaunch
internal import LinuxSystem
internal import SystemPackage

/// The socket to the launcher, and what is known from it.
final class LauncherWire: Sendable {
    private typealias Failure = HolderLauncher.Failure

    private enum Answer {
        case awaited
        case started(HolderProcess)
        case refused(LinuxError)
    }

    private struct State {
        var lastNumber: UInt64 = 0
        /// Key: the request's number. What is not waited for any more is not here.
        var answers: [UInt64: Answer] = [:]
        /// Key as above: what was started and has not ended.
        var running: [UInt64: HolderExit] = [:]
        var fence: String?
        var flaw: LaunchFlaw?
        var hasEnded = false
    }

    private let socket: OwnedDescriptor
    private let state = Monitor(State())

    init(_ socket: consuming OwnedDescriptor) { self.socket = socket }

    var hasEnded: Bool { state.update(waking: .nobody) { $0.hasEnded } }

    /// Ends both directions; the launcher goes, and `listen` returns.
    func close() {
        UnixSocket.shutdown(socket)
        markEnded()
    }

    // MARK: Asking

    func ready(within limit: Duration) throws(HolderLauncher.Failure) -> String {
        let found = state.wait(milliseconds: Int(limit.wholeMilliseconds)) { state -> Result<String, Failure>? in
            if let fence = state.fence { return .success(fence) }
            if let flaw = state.flaw { return .failure(.senseless(flaw)) }
            return state.hasEnded ? .failure(.ended) : nil
        }
        guard let found else { throw .silent(limit) }
        return try found.get()
    }

    func ask(
        _ order: LaunchRequest.Order, _ descriptor: Int32?, within limit: Duration
    ) throws(HolderLauncher.Failure) -> HolderProcess {
        let deadline = MonotonicInstant.now + limit
        let number = state.update(waking: .nobody) { state -> UInt64? in
            guard !state.hasEnded else { return nil }
            state.lastNumber += 1
            state.answers[state.lastNumber] = .awaited
            return state.lastNumber
        }
        guard let number else { throw .ended }
        do throws(HolderLauncher.Failure) {
            try send(LaunchRequest(number: number, order: order).encoded(), descriptor, until: deadline, limit)
        } catch {
            _ = state.update(waking: .nobody) { $0.answers.removeValue(forKey: number) }
            throw error
        }
        let left = max(0, (deadline - .now).wholeMilliseconds)
        let answer = state.wait(milliseconds: Int(left)) { state -> Answer? in
            if case .awaited? = state.answers[number], !state.hasEnded { return nil }
            return state.answers.removeValue(forKey: number) ?? .awaited
        }
        switch answer {
        case .started(let process): return process
        case .refused(let error): throw .refused(error)
        case .awaited: throw .ended
        case nil: break
        }
        // It may have come in this moment; if it comes later, it is not waited for.
        switch state.update(waking: .nobody, { $0.answers.removeValue(forKey: number) }) {
        case .started(let process): return process
        case .refused(let error): throw .refused(error)
        case .awaited, nil: throw .silent(limit)
        }
    }

    private func send(
        _ message: [UInt8], _ descriptor: Int32?, until deadline: MonotonicInstant, _ limit: Duration
    ) throws(HolderLauncher.Failure) {
        do throws(LinuxError) {
            while case .wouldBlock = try UnixSocket.send(
                message[...], descriptors: descriptor.map { [$0] } ?? [], on: socket)
            {
                guard try UnixSocket.wait(for: .writing, on: socket, until: deadline) else {
                    throw LinuxError("sendmsg", .timedOut)
                }
            }
        } catch {
            switch error.errno {
            case .timedOut: throw .silent(limit)
            case .brokenPipe, .connectionReset: throw .ended
            default: throw .refused(error)
            }
        }
    }

    // MARK: Listening

    /// Takes the launcher's answers until the socket ends.
    func listen() {
        while !hasEnded {
            do throws(LinuxError) {
                _ = try UnixSocket.wait(for: .reading, on: socket, until: nil)
                switch try UnixSocket.receive(upTo: LaunchRequest.limit + 1, maximumDescriptors: 1, from: socket) {
                case .wouldBlock: continue
                case .endOfStream: return markEnded()
                case .bytes(let message, let descriptors): take(message, descriptors.takeFirst())
                }
            } catch {
                guard error.errno == .messageTooLong else { return markEnded() }
                // An answer came and its pidfd found no room. Whose it was is not known; the holder ends without a call.
                failAll(LinuxError("recvmsg", .tooManyOpenFiles, detail: "a holder's pidfd"))
            }
        }
    }

    private func take(_ message: [UInt8], _ descriptor: consuming OwnedDescriptor?) {
        let answer: LaunchAnswer
        do throws(LaunchFlaw) { answer = try LaunchAnswer(decoding: message) } catch {
            state.update { $0.flaw = error }
            return
        }
        switch answer {
        case .ready(let fence): state.update { $0.fence = fence }
        case .refused(let number, let error): settle(number, .refused(error))
        case .started(let number, let pid):
            guard let descriptor = descriptor.take() else {
                settle(number, .refused(LinuxError("recvmsg", .badFileDescriptor, detail: "a holder's pidfd")))
                return
            }
            let exit = HolderExit()
            let process = HolderProcess(ProcessHandle(pid: pid, taking: descriptor), exit: exit)
            state.update(waking: .nobody) { $0.running[number] = exit }
            if !settle(number, .started(process)) { process.kill() }
        case .ended(let number, let how):
            state.update(waking: .nobody) { $0.running.removeValue(forKey: number) }?.tell(how)
        }
    }

    /// - Returns: false when it is not waited for.
    @discardableResult
    private func settle(_ number: UInt64, _ answer: Answer) -> Bool {
        state.update { state in
            guard case .awaited? = state.answers[number] else { return false }
            state.answers[number] = answer
            return true
        }
    }

    private func failAll(_ error: LinuxError) {
        state.update { state in
            for (number, answer) in state.answers {
                if case .awaited = answer { state.answers[number] = .refused(error) }
            }
        }
    }

    private func markEnded() {
        let orphans = state.update { state in
            state.hasEnded = true
            defer { state.running = [:] }
            return Array(state.running.values)
        }
        for exit in orphans { exit.lose() }
    }
}
