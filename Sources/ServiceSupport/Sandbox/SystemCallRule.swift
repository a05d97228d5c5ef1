/// One entry of a filter: which calls, under which condition, and why they are allowed.
public struct SystemCallRule: Hashable, Sendable {
    /// A call by name, or by number where libseccomp is older than the call.
    public enum Call: Hashable, Sendable {
        case name(String)
        case number(Int32)
    }

    /// `(argument & mask) == value`; the argument counts from 0.
    public struct Condition: Hashable, Sendable {
        public var argument: Int
        public var mask: UInt64
        public var value: UInt64

        public init(argument: Int, mask: UInt64 = .max, value: UInt64) {
            precondition((0...5).contains(argument), "a system call has six arguments")
            self.argument = argument
            self.mask = mask
            self.value = value
        }
    }

    public enum Verdict: Hashable, Sendable {
        case allow
        /// Fails with this errno instead of the filter's default.
        case errno(UInt16)
    }

    public var calls: [Call]
    /// Any one is enough; empty for always.
    public var conditions: [Condition]
    public var verdict: Verdict
    /// For people.
    public var reason: String

    public init(
        _ names: [String], when conditions: [Condition] = [], verdict: Verdict = .allow, because reason: String
    ) {
        self.init(calls: names.map { .name($0) }, when: conditions, verdict: verdict, because: reason)
    }

    public init(
        calls: [Call], when conditions: [Condition] = [], verdict: Verdict = .allow, because reason: String
    ) {
        self.calls = calls
        self.conditions = conditions
        self.verdict = verdict
        self.reason = reason
    }

    /// ioctl(2) with exactly these request numbers; with none, no ioctl. The kernel looks at the lower 32 bits alone.
    public static func ioctl(_ requests: some Sequence<UInt32>, because reason: String) -> Self {
        let conditions = requests.map { Condition(argument: 1, mask: 0xffff_ffff, value: UInt64($0)) }
        // A rule without conditions would let every request through.
        return Self(calls: conditions.isEmpty ? [] : [.name("ioctl")], when: conditions, because: reason)
    }

    /// ioctl(2) with every request number of one type, which is bits 15:8 of the number: 0xAE is KVM's.
    public static func ioctl(ofType type: UInt8, verdict: Verdict = .allow, because reason: String) -> Self {
        Self(
            ["ioctl"], when: [Condition(argument: 1, mask: 0xff00, value: UInt64(type) << 8)], verdict: verdict,
            because: reason)
    }
}
