/// One thing that reads what others wrote. `run` returns whatever the input is; a trap is a finding.
struct FuzzTarget: Sendable {
    var name: String
    var run: @Sendable ([UInt8]) -> Void

    static let all = [framer, message, interface, firmware, configuration, trace, launcher, status, units]
}

/// A property of the code under test; the input is kept when it does not hold.
func hold(_ condition: Bool, _ message: @autoclosure () -> String, file: StaticString = #file, line: UInt = #line) {
    if !condition { fatalError("a property does not hold: \(message())", file: file, line: line) }
}

/// Numbers taken from the input's head, so that a mutation changes them as well.
struct InputReader {
    private(set) var rest: ArraySlice<UInt8>

    init(_ bytes: [UInt8]) { rest = bytes[...] }

    /// 0 where the input has ended.
    mutating func byte() -> UInt8 { rest.popFirst() ?? 0 }

    /// Little-endian.
    mutating func word() -> UInt64 {
        (0..<8).reduce(0) { $0 | UInt64(byte()) << UInt64(8 * $1) }
    }
}
