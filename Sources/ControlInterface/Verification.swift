/// A range of guest memory that the host pays for twice: both sides are resident, and one of them nobody can reach.
public struct DoubleResidency: Codable, Hashable, Sendable {
    public var gpa: UInt64
    public var bytes: UInt64
    /// The side that nobody can reach.
    public var wasted: MemorySide
    /// Bytes of that side that are resident, by cachestat(2).
    public var wastedBytes: UInt64

    public init(gpa: UInt64, bytes: UInt64, wasted: MemorySide, wastedBytes: UInt64) {
        self.gpa = gpa
        self.bytes = bytes
        self.wasted = wasted
        self.wastedBytes = wastedBytes
    }

    enum CodingKeys: String, CodingKey {
        case gpa, bytes, wasted
        case wastedBytes = "wasted_bytes"
    }
}

extension HolderInterface {
    public enum Verify {
        public static let method = InterfaceName.holder + ".Verify"

        public struct Parameters: Codable, Hashable, Sendable {
            /// Whether what is wasted is freed.
            public var reclaim: Bool
            public init(reclaim: Bool) { self.reclaim = reclaim }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var checkedBytes: UInt64
            /// What was found, and with `reclaim` freed.
            public var wastedBytes: UInt64
            /// In ascending order.
            public var ranges: [DoubleResidency]
            public var milliseconds: Double

            public init(checkedBytes: UInt64, ranges: [DoubleResidency], milliseconds: Double) {
                self.checkedBytes = checkedBytes
                self.ranges = ranges
                self.milliseconds = milliseconds
                wastedBytes = ranges.reduce(0) { $0 + $1.wastedBytes }
            }

            enum CodingKeys: String, CodingKey {
                case checkedBytes = "checked_bytes"
                case wastedBytes = "wasted_bytes"
                case ranges, milliseconds
            }
        }
    }
}

extension ManagerInterface {
    public enum Verify {
        public static let method = InterfaceName.manager + ".Verify"

        public struct Parameters: Codable, Hashable, Sendable {
            public var name: String
            /// Whether what is wasted is freed.
            public var reclaim: Bool

            public init(name: String, reclaim: Bool) {
                self.name = name
                self.reclaim = reclaim
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var name: String
            public var backend: Backend
            public var emulated: Bool
            /// Whether what was found was freed.
            public var reclaimed: Bool
            public var checkedBytes: UInt64
            public var wastedBytes: UInt64
            /// In ascending order.
            public var ranges: [DoubleResidency]
            public var milliseconds: Double

            public init(name: String, backend: Backend, reclaimed: Bool, _ found: HolderInterface.Verify.Reply) {
                self.name = name
                self.backend = backend
                self.emulated = backend.isEmulated
                self.reclaimed = reclaimed
                checkedBytes = found.checkedBytes
                wastedBytes = found.wastedBytes
                ranges = found.ranges
                milliseconds = found.milliseconds
            }

            enum CodingKeys: String, CodingKey {
                case name, backend, emulated, reclaimed
                case checkedBytes = "checked_bytes"
                case wastedBytes = "wasted_bytes"
                case ranges, milliseconds
            }
        }
    }
}
