internal import TestSupport
public import Varlink

/// Answers that keep to an interface's types and to nothing else, from a seed: the same seed gives the same answers.
public struct HostileAnswers: Sendable {
    private let interface: VarlinkInterface
    private var random: SeededRandom

    public init(_ interface: VarlinkInterface, seed: UInt64) {
        self.interface = interface
        random = SeededRandom(seed: seed)
    }

    public var methods: [String] { interface.methods.keys.sorted() }

    static let integers: [Int64] = [
        .min, .min + 1, -1, 0, 1, 2, 63, 64, 4095, 4096, 1 << 20, 1 << 32, 1 << 52, 1 << 62, .max - 1, .max,
    ]
    static let numbers: [Double] = [
        0, -0.0, -1, 0.5, 1e15, 9.3e18, -9.3e18, 1e19, 1e300, -1e300, .greatestFiniteMagnitude, .leastNonzeroMagnitude,
    ]
    /// C0, C1, DEL, characters that turn the direction of text, separators, one beyond the first plane, many.
    static let texts: [String] = [
        "", "web1", "\u{1b}[2J\u{1b}]0;x\u{7}", "\u{9b}31m", "\u{7f}", "a\u{202e}b\u{2066}c\u{200f}",
        "\u{2028}\u{2029}",
        "\u{e0001}", "\u{feff}", "a\r\nb\tc", String(repeating: "w\u{301}", count: 3000), "2026-03-01T12:00:00.000Z",
        "99999999999999-99-99T99:99:99.999Z", "-", "ffffffffffffffff", "0xffffffffffffffff",
    ]

    public mutating func reply(to method: String) -> JSONValue {
        value(.structure(interface.methods[method]?.reply ?? []), depth: 0)
    }

    private mutating func value(_ type: VarlinkType, depth: Int) -> JSONValue {
        switch type {
        case .bool: return .bool(random.chance(50))
        case .int:
            // Most are such as are not refused at once, so that what comes after them is reached, too.
            return .int(random.chance(50) ? Int64(random.below(1 << 20)) : random.pick(Self.integers))
        case .float: return .double(random.pick(Self.numbers))
        case .string: return .string(random.pick(Self.texts))
        case .object, .any: return .object([:])
        case .named(let name):
            guard let declared = interface.types[name] else { return .null }
            return value(declared, depth: depth + 1)
        case .optional(let wrapped):
            return random.chance(depth > 6 ? 100 : 30) ? .null : value(wrapped, depth: depth + 1)
        case .array(let element): return .array((0..<random.below(4)).map { _ in value(element, depth: depth + 1) })
        case .map(let element): return .object(["\u{9b}key": value(element, depth: depth + 1)])
        case .structure(let fields):
            return .object(
                Dictionary(uniqueKeysWithValues: fields.map { ($0.name, value($0.type, depth: depth + 1)) }))
        case .enumeration(let words): return .string(random.pick(words))
        }
    }
}
