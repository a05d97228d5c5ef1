/// Repeatable random numbers (SplitMix64), so that a failure can be run again from the seed in its message.
public struct SeededRandom: RandomNumberGenerator, Sendable {
    public let seed: UInt64
    private var state: UInt64

    public init(seed: UInt64) {
        self.seed = seed
        state = seed
    }

    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// A number in `0 ..< bound`; the bias of the remainder does not matter to a test.
    public mutating func below(_ bound: UInt64) -> UInt64 { next() % bound }

    /// - Parameter percent: 0 (never) to 100 (always).
    public mutating func chance(_ percent: UInt64) -> Bool { below(100) < percent }

    /// - Parameter items: at least one.
    public mutating func pick<Item>(_ items: [Item]) -> Item { items[Int(below(UInt64(items.count)))] }
}
