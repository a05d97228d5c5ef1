public import LinuxSystem

/// How fast something grows, over the last seconds: so that a rate and the time left follow what happens now, not what
/// happened at the beginning.
public struct RateMeter: Sendable {
    /// How far back it looks.
    public static let window = 5_000.0
    /// Shorter than this there is no rate.
    public static let shortest = 200.0

    private var marks: [(time: MonotonicInstant, done: UInt64)] = []

    public init() {}

    public struct Reading: Hashable, Sendable {
        public var perSecond: Double
        /// Until `total`; nil where there is none, or nothing moves.
        public var secondsLeft: Double?

        public init(perSecond: Double, secondsLeft: Double?) {
            self.perSecond = perSecond
            self.secondsLeft = secondsLeft
        }
    }

    /// Notes how far it has come. Less than before begins anew.
    /// - Parameter total: 0 where it is unknown.
    /// - Returns: nil until there is enough to measure.
    public mutating func note(_ done: UInt64, of total: UInt64, at now: MonotonicInstant) -> Reading? {
        if let last = marks.last, done < last.done { marks = [] }
        // One mark a tenth of a second is enough; the first stays as it is.
        if marks.isEmpty || now.milliseconds(since: marks[marks.count - 1].time) >= 100 { marks.append((now, done)) }
        // The oldest mark that is kept may be just outside of the window: it is what the window is measured from.
        while marks.count > 2, now.milliseconds(since: marks[1].time) >= Self.window { marks.removeFirst() }
        let elapsed = now.milliseconds(since: marks[0].time)
        guard elapsed >= Self.shortest else { return nil }
        let rate = Double(done - marks[0].done) / elapsed * 1000
        let left = total >= done && total > 0 && rate > 0 ? Double(total - done) / rate : nil
        return Reading(perSecond: rate, secondsLeft: left)
    }

    /// Something else begins.
    public mutating func restart() { marks = [] }
}
