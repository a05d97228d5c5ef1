/// Arithmetic on numbers that come from outside: it ends at the type's limits and never traps.
extension FixedWidthInteger {
    /// The sum, or the limit that it is beyond.
    public func addingSaturated(_ other: Self) -> Self {
        let (sum, isOver) = addingReportingOverflow(other)
        guard isOver else { return sum }
        return Self.isSigned && other < 0 ? .min : .max
    }

    /// The difference, or the limit that it is beyond: 0 for one below it of a type without sign.
    public func subtractingSaturated(_ other: Self) -> Self {
        let (difference, isOver) = subtractingReportingOverflow(other)
        guard isOver else { return difference }
        return Self.isSigned && other < 0 ? .max : .min
    }

    /// The product, or the limit that it is beyond.
    public func multipliedSaturated(by other: Self) -> Self {
        let (product, isOver) = multipliedReportingOverflow(by: other)
        guard isOver else { return product }
        return (self < 0) == (other < 0) ? .max : .min
    }
}

extension Sequence where Element: FixedWidthInteger {
    /// The sum, or the limit that it is beyond.
    public func saturatedSum() -> Element { reduce(0) { $0.addingSaturated($1) } }
}

extension UInt64 {
    /// The whole part of a number; 0 for one below 0 or none, the greatest for one beyond it.
    public init(saturating number: Double) {
        guard number > 0 else {
            self = 0
            return
        }
        self = number < 0x1p64 ? UInt64(number) : .max
    }
}
