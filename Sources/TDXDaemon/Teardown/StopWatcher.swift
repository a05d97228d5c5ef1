internal import ControlInterface
internal import LinuxSystem
internal import ServiceSupport
internal import Synchronization

/// Who waits for the end of a TD: hears how it goes, with rate and time left, and gets one answer.
final class StopWatcher: Sendable {
    private struct State {
        var isAnswered = false
        var meter = RateMeter()
        var phase = ""
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
            var progress = progress
            if state.phase != progress.phase { state.meter.restart() }
            state.phase = progress.phase
            if let reading = state.meter.note(progress.doneBytes, of: progress.totalBytes, at: .now) {
                progress.bytesPerSecond = UInt64(reading.perSecond)
                progress.etaSeconds = reading.secondsLeft
            }
            // Under the lock, so that no progress follows the answer.
            onProgress(progress)
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
