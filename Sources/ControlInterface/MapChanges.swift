extension ManagerInterface {
    public enum MapChanges {
        public static let method = InterfaceName.manager + ".MapChanges"

        public struct Parameters: Codable, Hashable, Sendable {
            public var name: String
            /// The sequence of the answer before; nil for the whole map now.
            public var since: Int64?
            /// 0 to 60,000; nil for 10,000.
            public var waitMilliseconds: Int64?

            public init(name: String, since: Int64? = nil, waitMilliseconds: Int64? = nil) {
                self.name = name
                self.since = since
                self.waitMilliseconds = waitMilliseconds
            }

            enum CodingKeys: String, CodingKey {
                case name, since
                case waitMilliseconds = "wait_ms"
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var name: String
            public var backend: Backend
            public var emulated: Bool
            /// Of the last change in `runs`.
            public var sequence: Int64
            /// `runs` is the whole map.
            public var snapshot: Bool
            public var runs: [MemoryRun]

            public init(name: String, backend: Backend, _ changes: HolderInterface.MapChanges.Reply) {
                self.name = name
                self.backend = backend
                self.emulated = backend.isEmulated
                self.sequence = changes.sequence
                self.snapshot = changes.snapshot
                self.runs = changes.runs
            }
        }
    }
}

extension HolderInterface {
    public enum MapChanges {
        public static let method = InterfaceName.holder + ".MapChanges"

        public struct Parameters: Codable, Hashable, Sendable {
            public var since: Int64?
            public var waitMilliseconds: Int64?

            public init(since: Int64?, waitMilliseconds: Int64?) {
                self.since = since
                self.waitMilliseconds = waitMilliseconds
            }

            enum CodingKeys: String, CodingKey {
                case since
                case waitMilliseconds = "wait_ms"
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var sequence: Int64
            public var snapshot: Bool
            public var runs: [MemoryRun]

            public init(sequence: Int64, snapshot: Bool, runs: [MemoryRun]) {
                self.sequence = sequence
                self.snapshot = snapshot
                self.runs = runs
            }
        }
    }
}

/// What clients may say of how they follow a map.
public enum MapFollowing {
    public static let waitMilliseconds: ClosedRange<Int64> = 0...60_000
    public static let standardWait: Int64 = 10_000
    /// Changes in one answer.
    public static let mostChanges = 4096

    /// - Throws: `ControlError.invalidField`.
    public static func checkedWait(_ milliseconds: Int64?) throws(ControlError) -> Duration {
        let milliseconds = milliseconds ?? standardWait
        guard waitMilliseconds.contains(milliseconds) else {
            throw .invalidField(field: "wait_ms", value: String(milliseconds), limit: "0 to 60000")
        }
        return .milliseconds(milliseconds)
    }

    /// - Throws: `ControlError.invalidField`.
    public static func checkedSequence(_ since: Int64?) throws(ControlError) -> UInt64? {
        guard let since else { return nil }
        guard let sequence = UInt64(exactly: since) else {
            throw .invalidField(field: "since", value: String(since), limit: "at least 0")
        }
        return sequence
    }
}
