internal import MemoryUnits

/// How the figures of a TD in the inventory are known. The raw values are those on the wire.
public enum InventorySource: String, Codable, Hashable, Sendable, CaseIterable {
    /// From its attribute map.
    case map
    /// All its memory, because nobody can tell how much of it is private.
    case whole
}

/// What is known of one TD's private memory.
public struct InventoryDomain: Codable, Hashable, Sendable {
    public var name: String
    public var id: String
    public var state: TrustDomainState
    public var backend: Backend
    public var emulated: Bool
    public var source: InventorySource
    /// Why it is counted whole, or why ranges that were asked for are not there.
    public var reason: String?
    public var memoryBytes: UInt64
    public var privateBytes: UInt64
    /// In transition in either direction.
    public var convertingBytes: UInt64
    /// The last change of the map that the figures and the ranges contain; nil without ranges.
    public var sequence: Int64?
    /// How many ranges are told; nil without.
    public var ranges: Int?

    public init(
        name: String, id: String, state: TrustDomainState, backend: Backend, source: InventorySource, reason: String?,
        memoryBytes: UInt64, privateBytes: UInt64, convertingBytes: UInt64, sequence: Int64? = nil, ranges: Int? = nil
    ) {
        self.name = name
        self.id = id
        self.state = state
        self.backend = backend
        self.emulated = backend.isEmulated
        self.source = source
        self.reason = reason
        self.memoryBytes = memoryBytes
        self.privateBytes = privateBytes
        self.convertingBytes = convertingBytes
        self.sequence = sequence
        self.ranges = ranges
    }

    enum CodingKeys: String, CodingKey {
        case name, id, state, backend, emulated, source, reason, sequence, ranges
        case memoryBytes = "memory_bytes"
        case privateBytes = "private_bytes"
        case convertingBytes = "converting_bytes"
    }
}

/// Ranges of one TD that are private or in transition, in ascending order.
public struct InventoryRanges: Codable, Hashable, Sendable {
    public var id: String
    public var runs: [MemoryRun]
    /// Why no further range of this TD follows although more were announced: it ended meanwhile.
    public var cut: String?

    public init(id: String, runs: [MemoryRun], cut: String? = nil) {
        self.id = id
        self.runs = runs
        self.cut = cut
    }
}

/// The sums over all TDs that were told.
public struct InventoryTotal: Codable, Hashable, Sendable {
    public var backend: Backend
    public var emulated: Bool
    public var domains: Int
    /// Of them, those that are counted whole.
    public var wholeDomains: Int
    /// Of them, those whose ranges were asked for and are not there.
    public var withoutRanges: Int
    public var memoryBytes: UInt64
    public var privateBytes: UInt64
    public var convertingBytes: UInt64
    public var ranges: Int

    public init(backend: Backend) {
        self.backend = backend
        emulated = backend.isEmulated
        domains = 0
        wholeDomains = 0
        withoutRanges = 0
        memoryBytes = 0
        privateBytes = 0
        convertingBytes = 0
        ranges = 0
    }

    /// - Parameter wantsRanges: they were asked for.
    public mutating func add(_ domain: InventoryDomain, wantsRanges: Bool) {
        domains += 1
        if domain.source == .whole { wholeDomains += 1 }
        if wantsRanges, domain.ranges == nil { withoutRanges += 1 }
        memoryBytes = memoryBytes.addingSaturated(domain.memoryBytes)
        privateBytes = privateBytes.addingSaturated(domain.privateBytes)
        convertingBytes = convertingBytes.addingSaturated(domain.convertingBytes)
        ranges += domain.ranges ?? 0
    }

    enum CodingKeys: String, CodingKey {
        case backend, emulated, domains, ranges
        case wholeDomains = "whole_domains"
        case withoutRanges = "without_ranges"
        case memoryBytes = "memory_bytes"
        case privateBytes = "private_bytes"
        case convertingBytes = "converting_bytes"
    }
}

extension ManagerInterface {
    public enum Inventory {
        public static let method = InterfaceName.manager + ".Inventory"
        /// In one answer at most.
        public static let mostDomains = 256
        /// In one answer at most, over all TDs in it.
        public static let mostRanges = 4096

        public struct Parameters: Codable, Hashable, Sendable {
            public var ranges: Bool?
            public init(ranges: Bool? = nil) { self.ranges = ranges }
        }

        /// TDs, each once, their ranges at the same time or later; the sums in the last answer.
        public struct Reply: Codable, Hashable, Sendable {
            public var domains: [InventoryDomain]?
            public var ranges: [InventoryRanges]?
            public var total: InventoryTotal?

            public init(
                domains: [InventoryDomain]? = nil, ranges: [InventoryRanges]? = nil, total: InventoryTotal? = nil
            ) {
                self.domains = domains
                self.ranges = ranges
                self.total = total
            }
        }
    }
}

extension HolderInterface {
    /// A sealed file of `PrivateRangeEncoder`'s bytes comes with the reply.
    public enum GetPrivateRanges {
        public static let method = InterfaceName.holder + ".GetPrivateRanges"

        public struct Reply: Codable, Hashable, Sendable {
            /// Of the last change of the map that the ranges contain.
            public var sequence: Int64
            public init(sequence: Int64) { self.sequence = sequence }
        }
    }
}
