/// NUMA nodes 0 to 63, as a mask.
public struct NodeSet: OptionSet, Hashable, Sendable {
    /// What a mask has room for.
    public static let numbers = 0...63

    public var rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    /// - Parameter number: 0 … 63.
    public static func node(_ number: Int) -> Self { Self(rawValue: 1 << UInt64(number)) }

    /// In ascending order.
    public var nodes: [Int] { Self.numbers.filter { contains(.node($0)) } }

    /// Reads a list as the kernel writes it, such as "0-1,3". Nil for anything else, and where a number is beyond 63.
    public init?(parsing text: some StringProtocol) {
        guard let ranges = Self.ranges(of: text), ranges.allSatisfy({ Self.numbers.contains($0.upperBound) }) else {
            return nil
        }
        self.init(withNumbersIn: ranges)
    }

    /// What of a machine's list there is room for; of something else, nothing.
    init(roomFor list: some StringProtocol) {
        self.init(withNumbersIn: Self.ranges(of: list) ?? [])
    }

    private init(withNumbersIn ranges: [ClosedRange<Int>]) {
        self = []
        for number in Self.numbers where ranges.contains(where: { $0.contains(number) }) { insert(.node(number)) }
    }

    private static func ranges(of text: some StringProtocol) -> [ClosedRange<Int>]? {
        var ranges: [ClosedRange<Int>] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { end in
                end.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } ? Int(end) : nil
            }
            guard ends.count <= 2, let first = ends[0], let last = ends[ends.count - 1], first <= last else {
                return nil
            }
            ranges.append(first...last)
        }
        return ranges
    }
}

extension NodeSet: CustomStringConvertible {
    /// As `init(parsing:)` reads it; empty for no node.
    public var description: String {
        var ranges: [ClosedRange<Int>] = []
        for node in nodes {
            if let last = ranges.last, last.upperBound + 1 == node {
                ranges[ranges.count - 1] = last.lowerBound...node
            } else {
                ranges.append(node...node)
            }
        }
        return ranges.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }
            .joined(separator: ",")
    }
}
