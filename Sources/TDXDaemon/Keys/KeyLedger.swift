internal import ControlInterface
internal import MemoryUnits

/// Who holds which memory-encryption key id. A key id is reserved before a TD is created and counts as taken until its
/// return is proven, not until a process has ended.
///
/// On an emulated host the ledger is the pool. On backend `tdx` the kernel has a pool of its own and keeps the number to
/// itself; the ledger then bounds how many TDs there may be, and its numbers are names only.
struct KeyLedger: Sendable {
    enum Use: Hashable, Sendable {
        /// Taken for a TD that is being built.
        case reserved
        case inUse
        /// The TD has ended for its user; the return is not yet proven.
        case draining
    }

    struct Holding: Hashable, Sendable {
        /// The TD's id.
        var holder: String
        var use: Use
    }

    /// The first TDX key id of a machine with 5 bits of MKTME ids, which take 1 … 31.
    static let defaultFirst = KeyID(32)
    /// Servers with TDX offer 15 to 63; 16 makes exhaustion easy to see.
    static let defaultCapacity = 16

    /// How many key ids the pool has; nil where it is not known. The kernel refuses then what its own pool has not.
    private(set) var capacity: Int?
    let first: KeyID
    /// Key: a key id that is not free. May hold ids outside the pool: those of adopted TDs from before a smaller pool
    /// was configured.
    private(set) var holdings: [KeyID: Holding] = [:]

    /// - Precondition: `capacity` ids from `first` on fit in 16 bits.
    init(first: KeyID = Self.defaultFirst, capacity: Int = Self.defaultCapacity) {
        precondition(capacity >= 0 && Int(first.rawValue) + capacity <= 1 << 16, "the key ids do not fit in 16 bits")
        self.first = first
        self.capacity = capacity
    }

    /// Key ids that are not free, whatever for.
    var taken: Int { holdings.count }

    /// The pool turns out to be the kernel's, which does not show how large it is.
    mutating func forgetCapacity() { capacity = nil }

    /// The lowest free key id.
    /// - Throws: `ControlError.noKeyAvailable`, nothing changed.
    mutating func reserve(for holder: String) throws(ControlError) -> KeyID {
        // Key ids are numbers of 16 bits.
        let limit = capacity ?? (1 << 16) - Int(first.rawValue)
        if taken < limit {
            for number in 0..<limit {
                let key = KeyID(first.rawValue + UInt16(number))
                guard holdings[key] == nil else { continue }
                holdings[key] = Holding(holder: holder, use: .reserved)
                return key
            }
        }
        throw .noKeyAvailable(capacity: limit, inUse: taken)
    }

    /// Enters a key id that a TD from before this daemon's start holds.
    /// - Returns: The id of another TD that holds the same one; nothing is changed then.
    mutating func adopt(_ key: KeyID, for holder: String, use: Use = .inUse) -> String? {
        if let present = holdings[key], present.holder != holder { return present.holder }
        holdings[key] = Holding(holder: holder, use: use)
        return nil
    }

    /// Changes what the TD's key id is held for. Nothing happens when it holds none.
    mutating func mark(_ use: Use, holder: String) {
        for (key, holding) in holdings where holding.holder == holder { holdings[key]?.use = use }
        checkInvariants()
    }

    /// Frees the TD's key id.
    /// - Returns: The key id; nil when the TD held none.
    @discardableResult
    mutating func giveBack(holder: String) -> KeyID? {
        guard let key = key(of: holder) else { return nil }
        holdings[key] = nil
        return key
    }

    /// For people.
    var capacityText: String { capacity.map { String($0) } ?? "an unknown number of" }

    func key(of holder: String) -> KeyID? { holdings.first { $0.value.holder == holder }?.key }

    func count(_ use: Use) -> Int { holdings.values.count { $0.use == use } }

    func checkInvariants() {
        let holders = holdings.values.map(\.holder)
        precondition(Set(holders).count == holders.count, "a TD holds two key ids: \(holdings)")
    }
}
