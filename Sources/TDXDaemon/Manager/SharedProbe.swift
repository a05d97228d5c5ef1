internal import ControlInterface
internal import LinuxSystem
internal import Synchronization

/// The probe of the host, which takes a process: one at a time, whose report serves all that ask while it runs and for a moment
/// after. Whoever waits for it takes no thread.
final class SharedProbe: Sendable {
    typealias Answer = Result<HostReport, ControlError>

    private struct State {
        var isRunning = false
        var waiting: [@Sendable (Answer) -> Void] = []
        var last: (report: HostReport, at: MonotonicInstant)?
    }

    /// How old a report may be.
    static let age = Duration.seconds(2)

    private let state = Mutex(State())

    /// - Parameters:
    ///   - start: has `run` done on a thread; called where no probe runs and the last report is too old.
    ///   - then: called once with the report, from any thread, or at once.
    func ask(
        start: (@escaping @Sendable () -> Void) -> Void, run: @escaping @Sendable () -> Answer,
        then: @escaping @Sendable (Answer) -> Void
    ) {
        let (known, isFirst) = state.withLock { state -> (HostReport?, Bool) in
            if let last = state.last, MonotonicInstant.now < last.at + Self.age { return (last.report, false) }
            state.waiting.append(then)
            defer { state.isRunning = true }
            return (nil, !state.isRunning)
        }
        if let known { return then(.success(known)) }
        guard isFirst else { return }
        start { [self] in
            let answer = run()
            let waiting = state.withLock { state in
                state.isRunning = false
                // A failure is returned to those that asked, and tried again for the next.
                if case .success(let report) = answer { state.last = (report, .now) }
                defer { state.waiting = [] }
                return state.waiting
            }
            for then in waiting { then(answer) }
        }
    }
}
