internal import ControlInterface
internal import Synchronization

/// Who waits for the end of a TD: hears how it goes, with rate and time left, and gets one answer.
final class StopWatcher: Sendable {
    private struct State {
        var isAnswered = false
        var meter = ProgressMeter()
    }

    private let state = Mutex(State())
    private let onProgress: @Sendable (Progress) -> Void
    private let onAnswer: @Sendable (TeardownCertificate) -> Void

    init(
        progress: @escaping @Sendable (Progress) -> Void, answer: @escaping @Sendable (TeardownCertificate) -> Void
    ) {
        onProgress = progress
        onAnswer = answer
    }

    /// Nobody waits.
    convenience init() {
        self.init(progress: { _ in }, answer: { _ in })
    }

    var isAnswered: Bool { state.withLock { $0.isAnswered } }

    /// Dropped once the answer is given.
    func report(_ progress: Progress) {
        state.withLock { state in
            guard !state.isAnswered else { return }
            // Under the lock, so that no progress follows the answer.
            onProgress(state.meter.completed(progress))
        }
    }

    /// The first answer counts.
    func answer(_ certificate: TeardownCertificate) {
        state.withLock { state in
            guard !state.isAnswered else { return }
            state.isAnswered = true
            onAnswer(certificate)
        }
    }
}
