extension Duration {
    private static let units: [(name: String, milliseconds: Int64)] = [
        ("ms", 1), ("min", 60_000), ("s", 1000), ("h", 3_600_000),
    ]

    /// A time as people write it: digits and one of the units ms, s, min, h. Nil for anything else, and for what is
    /// beyond 2^63 ms.
    public init?(parsing text: String) {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let unit = text.dropFirst(digits.count)
        guard let number = Int64(digits), let scale = Self.units.first(where: { $0.name == unit })?.milliseconds,
            !number.multipliedReportingOverflow(by: scale).overflow
        else { return nil }
        self = .milliseconds(number * scale)
    }

    /// Whole milliseconds, rounded down.
    public var wholeMilliseconds: Int64 { components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000 }

    /// In the largest unit that divides it, as `init(parsing:)` reads it.
    public var inWords: String {
        let milliseconds = wholeMilliseconds
        let unit = Self.units.filter { milliseconds % $0.milliseconds == 0 }.max { $0.milliseconds < $1.milliseconds }
        return unit.map { "\(milliseconds / $0.milliseconds)\($0.name)" } ?? "\(milliseconds)ms"
    }
}
