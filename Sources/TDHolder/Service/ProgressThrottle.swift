internal import ControlInterface
internal import LinuxSystem
internal import Synchronization

/// Lets progress through at most every 50 ms, and whenever the phase changes: a TD of many GiB reports each chunk, and a
/// client that reads slowly must not be drowned.
final class ProgressThrottle: Sendable {
    private struct State {
        var phase: String?
        var next = MonotonicInstant(nanoseconds: 0)
    }
    private let state = Mutex(State())

    /// Whether this one is to be sent.
    func isDue(_ progress: Progress) -> Bool {
        let now = MonotonicInstant.now
        return state.withLock { state in
            // A phase's beginning and its end are always sent, however fast it was.
            let isComplete = progress.totalBytes > 0 && progress.doneBytes >= progress.totalBytes
            guard state.phase != progress.phase || isComplete || now >= state.next else { return false }
            state.phase = progress.phase
            state.next = now.adding(milliseconds: 50)
            return true
        }
    }
}
