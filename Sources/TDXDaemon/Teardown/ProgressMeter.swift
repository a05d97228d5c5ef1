internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import ServiceSupport

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
