public import LinuxSystem

/// When conversions count as a storm.
public struct StormRule: Hashable, Sendable {
    /// More conversions than this …
    public var conversions: Int
    /// … within so many milliseconds.
    public var milliseconds: UInt64

    public init(conversions: Int = 10_000, milliseconds: UInt64 = 1_000) {
        precondition(conversions > 0 && milliseconds > 0, "a storm has a number and a time")
        self.conversions = conversions
        self.milliseconds = milliseconds
    }
}

/// How it stands with storms.
public struct StormStatus: Hashable, Sendable {
    public var rule: StormRule
    /// How many have begun.
    public var storms: UInt64
    /// Nil where none is active.
    public var since: MonotonicInstant?
}

/// Counts storms: a storm begins when more conversions than the rule allows fall into one window, and ends with the
/// first window that holds fewer. Pure; fed with times.
struct StormDetector: Sendable {
    let rule: StormRule
    private var window: UInt64?
    private var count = 0
    private var began: UInt64?
    private(set) var storms: UInt64 = 0

    init(_ rule: StormRule) { self.rule = rule }

    /// - Parameter nanoseconds: of the monotonic clock, never earlier than before.
    /// - Returns: whether a storm has begun with this conversion.
    mutating func note(_ nanoseconds: UInt64) -> Bool {
        let current = index(nanoseconds)
        if current != window {
            if hasPassed(at: current) { began = nil }
            window = current
            count = 0
        }
        count += 1
        guard count > rule.conversions, began == nil else { return false }
        began = nanoseconds
        storms += 1
        return true
    }

    /// As of a time that is not before the last conversion's.
    func status(at nanoseconds: UInt64) -> StormStatus {
        let rages = began.flatMap { hasPassed(at: index(nanoseconds)) ? nil : $0 }
        return StormStatus(rule: rule, storms: storms, since: rages.map { MonotonicInstant(nanoseconds: $0) })
    }

    private func index(_ nanoseconds: UInt64) -> UInt64 { nanoseconds / (rule.milliseconds * 1_000_000) }

    /// Whether a window between the storm's last and this one held too few; one that was skipped held none at all.
    private func hasPassed(at current: UInt64) -> Bool {
        guard let window, current != window else { return false }
        return count <= rule.conversions || window + 1 != current
    }
}
