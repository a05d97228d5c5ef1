public import TDXModule

/// A condition that calls are to meet: which one, how often, and after how many places that look for it.
public struct PlannedFault: Hashable, Sendable {
    public var fault: Fault
    public var times: Int
    public var skipping: Int

    public init(_ fault: Fault, times: Int = 1, skipping: Int = 0) {
        self.fault = fault
        self.times = times
        self.skipping = skipping
    }

    /// The faults by the names that users write.
    public static let names: [(name: String, fault: Fault)] = [
        ("entropy", .entropy), ("key-generation", .keyGeneration), ("interrupt", .interrupt),
        ("tsc-adjust", .tscAdjust), ("tsc-rollback", .tscRollback), ("cpuid-limit", .cpuidLimit),
        ("page-metadata", .pageMetadata),
    ]

    /// Reads NAME, NAME:TIMES or NAME:TIMES:SKIPPING.
    /// - Throws: what is wrong.
    public init(parsing text: String) throws(ServerError) {
        let words = text.split(separator: ":", omittingEmptySubsequences: false)
        guard let known = Self.names.first(where: { $0.name == words[0] }) else {
            throw ServerError(
                "“\(words[0])” is not a known fault; there are \(Self.names.map(\.name).joined(separator: ", "))")
        }
        guard words.count <= 3 else { throw ServerError("“\(text)” is not NAME:TIMES:SKIPPING") }
        func number(_ index: Int, _ least: Int, or standard: Int) throws(ServerError) -> Int {
            guard words.indices.contains(index) else { return standard }
            guard let value = Int(words[index]), (least...1_000_000).contains(value) else {
                throw ServerError("“\(words[index])” in “\(text)” is not a number from \(least) to 1000000")
            }
            return value
        }
        fault = known.fault
        times = try number(1, 1, or: 1)
        skipping = try number(2, 0, or: 0)
    }
}
