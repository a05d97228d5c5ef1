import Glibc

/// Repeatable random numbers (SplitMix64), so that a failure can be run again from the seed that was printed.
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

/// How long the endurance tests run, from the environment: few rounds by themselves, many by scripts/test-hostile and
/// scripts/test-kill.
enum Endurance {
    /// A whole number from 1 up in an environment variable; anything else is an error of who set it.
    static func count(_ variable: String, standard: Int) -> Int {
        guard let text = getenv(variable).map({ String(cString: $0) }) else { return standard }
        guard let count = Int(text), count > 0 else {
            fatalError("\(variable) is “\(text)”; it must be a whole number from 1")
        }
        return count
    }

    /// The seed that the environment names, or one of this moment.
    static func seed(_ variable: String) -> UInt64 {
        guard let text = getenv(variable).map({ String(cString: $0) }) else {
            return UInt64.random(in: 0...(1 << 32))
        }
        guard let seed = UInt64(text) else { fatalError("\(variable) is “\(text)”; it must be a whole number") }
        return seed
    }

    /// Printed at once, whole, so that it is there whatever happens next.
    static func say(_ line: String) {
        let bytes = Array("== \(line)\n".utf8)
        _ = write(1, bytes, bytes.count)
    }
}
