/// What clients may say of how they follow a map.
public enum MapFollowing {
    public static let waitMilliseconds: ClosedRange<Int64> = 0...60_000
    public static let standardWait: Int64 = 10_000
    /// Changes in one answer.
    public static let mostChanges = 4096

    /// - Throws: `ControlError.invalidField`.
    public static func checkedWait(_ milliseconds: Int64?) throws(ControlError) -> Duration {
        let milliseconds = milliseconds ?? standardWait
        guard waitMilliseconds.contains(milliseconds) else {
            throw .invalidField(field: "wait_ms", value: String(milliseconds), limit: "0 to 60000")
        }
        return .milliseconds(milliseconds)
    }

    /// - Throws: `ControlError.invalidField`.
    public static func checkedSequence(_ since: Int64?) throws(ControlError) -> UInt64? {
        guard let since else { return nil }
        guard let sequence = UInt64(exactly: since) else {
            throw .invalidField(field: "since", value: String(since), limit: "at least 0")
        }
        return sequence
    }
}

/// How many conversions are listed one by one.
extension HolderInterface.Conversions {
    /// At most.
    public static let lasts: ClosedRange<Int64> = 0...1000
    /// Where the client gives no number.
    public static let standardLast: Int64 = 20

    /// - Throws: `ControlError.invalidField`.
    public static func checkedLast(_ last: Int64?) throws(ControlError) -> Int {
        let last = last ?? standardLast
        guard lasts.contains(last) else {
            throw .invalidField(field: "last", value: String(last), limit: "\(lasts.lowerBound) to \(lasts.upperBound)")
        }
        return Int(last)
    }
}

extension ConversionStormRule {
    public static let conversionCounts: ClosedRange<Int> = 1...1_000_000_000
    public static let windows: ClosedRange<Int64> = 100...3_600_000
}

extension NUMAPolicy {
    /// Numbers that a node may have.
    public static let nodeNumbers = 0...63

    /// The same with its nodes in order.
    /// - Throws: `ControlError.invalidField` unless there are nodes, each of a number that can be, once.
    public func checked() throws(ControlError) -> Self {
        let limit = "one or more different numbers from 0 to 63"
        guard !nodes.isEmpty else { throw .invalidField(field: "numa.nodes", value: "[]", limit: limit) }
        var seen: Set<Int> = []
        for node in nodes where !Self.nodeNumbers.contains(node) || !seen.insert(node).inserted {
            throw .invalidField(field: "numa.nodes", value: String(node), limit: limit)
        }
        return Self(policy: policy, nodes: nodes.sorted())
    }
}
