internal import ControlInterface
internal import LinuxSystem

/// How long work shows its progress: a bar that is redrawn on a terminal, plain lines elsewhere.
///
/// It returns what to write and does no I/O, so that it is the same for a terminal and for a test.
struct ProgressBar {
    /// Where output is not a terminal, work that ends within this time is not worth a line.
    static let quietTime = Duration.seconds(1)
    /// A bar is redrawn at most this often.
    static let redrawInterval = Duration.milliseconds(50)

    private let title: String
    private let isTerminal: Bool
    private let width: Int
    private let start: MonotonicInstant
    private var lastWrite: MonotonicInstant?
    private var lastPhase = ""
    private var isDrawn = false

    init(title: String, isTerminal: Bool, width: Int, now: MonotonicInstant) {
        self.title = title
        self.isTerminal = isTerminal
        self.width = width
        start = now
    }

    /// What to write for news of the work; empty for nothing.
    mutating func update(_ progress: Progress, now: MonotonicInstant) -> String {
        defer { lastPhase = progress.phase }
        return isTerminal ? redrawn(progress, now) : line(progress, now)
    }

    /// What to write when the work has ended, whichever way.
    mutating func finish() -> String {
        defer { isDrawn = false }
        return isDrawn ? "\r\u{1b}[K" : ""
    }

    private mutating func redrawn(_ progress: Progress, _ now: MonotonicInstant) -> String {
        if let lastWrite, progress.phase == lastPhase, now - lastWrite < Self.redrawInterval { return "" }
        lastWrite = now
        isDrawn = true
        let label = "\(title): \(printable(progress.phase))"
        let amount = amountText(progress)
        let room = width - label.count - amount.count - 4
        var text = label
        if progress.totalBytes > 0, room >= 10 {
            let cells = min(room, 40)
            let filled = Int(Double(cells) * fraction(progress))
            text += " [" + String(repeating: "#", count: filled) + String(repeating: "·", count: cells - filled) + "]"
        }
        text += amount
        return "\r" + String(text.prefix(max(width - 1, 1))) + "\u{1b}[K"
    }

    private mutating func line(_ progress: Progress, _ now: MonotonicInstant) -> String {
        guard now - start >= Self.quietTime else { return "" }
        if let lastWrite, progress.phase == lastPhase, now - lastWrite < Self.quietTime { return "" }
        lastWrite = now
        let amount = amountText(progress)
        return "\(title): \(printable(progress.phase))\(amount)\n"
    }

    /// What follows the phase's name, with what separates it; empty for nothing.
    private func amountText(_ progress: Progress) -> String {
        var parts: [String] = []
        if progress.totalBytes > 0 {
            parts.append("\(Int(fraction(progress) * 100)) %")
            parts.append("\(formatted(bytes: progress.doneBytes)) of \(formatted(bytes: progress.totalBytes))")
        } else if progress.doneBytes > 0 {
            parts.append(formatted(bytes: progress.doneBytes))
        }
        if let rate = progress.bytesPerSecond, progress.doneBytes > 0 { parts.append("\(formatted(bytes: rate))/s") }
        if let left = progress.etaSeconds, left >= 1 { parts.append("\(formatted(longSeconds: left)) left") }
        let amount = parts.isEmpty ? "" : " " + parts.joined(separator: ", ")
        guard let detail = progress.detail, !detail.isEmpty else { return amount }
        return amount + (amount.isEmpty ? " – " : ", ") + printable(detail)
    }

    private func fraction(_ progress: Progress) -> Double {
        min(1, Double(progress.doneBytes) / Double(progress.totalBytes))
    }
}
