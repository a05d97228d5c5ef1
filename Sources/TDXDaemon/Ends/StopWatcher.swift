internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import ServiceSupport
internal import Synchronization

/// A client that waits for the end of a TD: it gets progress, with rate and time left, and one answer.
final class StopWatcher: Sendable {
    private struct State {
        var isAnswered = false
        var meter = ProgressMeter()
    }

    private let state = Mutex(State())
    private let onProgress: @Sendable (Progress) -> Void
    private let onAnswer: @Sendable (TeardownCertificate) -> Void
    private let onRefusal: @Sendable (ControlError) -> Void

    init(
        progress: @escaping @Sendable (Progress) -> Void = { _ in },
        answer: @escaping @Sendable (TeardownCertificate) -> Void = { _ in },
        refusal: @escaping @Sendable (ControlError) -> Void = { _ in }
    ) {
        onProgress = progress
        onAnswer = answer
        onRefusal = refusal
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

    /// The TD goes on as it was.
    func refuse(_ error: ControlError) {
        state.withLock { state in
            guard !state.isAnswered else { return }
            state.isAnswered = true
            onRefusal(error)
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

/// Completes progress with its rate and the time left, phase by phase.
struct ProgressMeter: Sendable {
    private var meter = RateMeter()
    private var phase = ""

    mutating func completed(_ progress: Progress) -> Progress {
        var progress = progress
        if phase != progress.phase { meter.restart() }
        phase = progress.phase
        if let reading = meter.note(progress.doneBytes, of: progress.totalBytes, at: .now) {
            progress.bytesPerSecond = UInt64(saturating: reading.perSecond)
            progress.etaSeconds = reading.secondsLeft
        }
        return progress
    }
}
