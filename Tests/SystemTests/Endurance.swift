import Glibc

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
