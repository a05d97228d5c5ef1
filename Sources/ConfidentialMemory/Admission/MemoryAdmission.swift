public import MemoryUnits

/// What a host, or a control group of it, can still give. Bytes.
public struct MemorySupply: Hashable, Sendable {
    /// MemAvailable of /proc/meminfo.
    public var available: ByteCount
    /// memory.max of the tightest control group; nil for none.
    public var groupLimit: ByteCount?
    /// memory.current of that group.
    public var groupCurrent: ByteCount
    /// Memory promised to TDs and not yet allocated by them.
    public var promised: ByteCount

    public init(
        available: ByteCount, groupLimit: ByteCount? = nil, groupCurrent: ByteCount = .zero,
        promised: ByteCount = .zero
    ) {
        self.available = available
        self.groupLimit = groupLimit
        self.groupCurrent = groupCurrent
        self.promised = promised
    }
}

/// What a TD will take at worst. Bytes.
public struct MemoryDemand: Hashable, Sendable {
    /// RAM and firmware.
    public var guest: ByteCount
    /// Both sides of a conversion under way: one chunk is allocated twice until its old side is discarded.
    public var conversion: ByteCount
    /// The module's page metadata where the module is software and keeps it in this host's memory: 1/256 of the guest's
    /// memory. Hardware sets it aside at boot.
    public var pageMetadata: ByteCount
    /// KVM's attributes: about 9 bytes a private page (reference: kvm.md §3).
    public var attributes: ByteCount

    /// - Parameters:
    ///   - guest: RAM and firmware.
    ///   - isEmulated: the TDX module is the software one.
    public init(guest: ByteCount, isEmulated: Bool) {
        self.guest = guest
        conversion = min(guest, GuestMemory.maximumChunk)
        pageMetadata = isEmulated ? ByteCount(guest.rawValue / 256) : .zero
        attributes = ByteCount(guest.pages.rawValue * 9)
    }

    public var total: ByteCount {
        // Saturating: a demand that does not fit 64 bits is refused like any other that is too large.
        [conversion, pageMetadata, attributes].reduce(guest) { sum, part in
            let (value, overflow) = sum.rawValue.addingReportingOverflow(part.rawValue)
            return overflow ? ByteCount(.max) : ByteCount(value)
        }
    }
}

/// There is not enough memory. Asked before anything is allocated, because a control group's limit answers with the OOM
/// killer, not with an error (reference: kvm.md §2.6).
public struct InsufficientMemory: Error, Hashable, Sendable {
    /// Which limit it is.
    public enum Limit: String, Hashable, Sendable {
        case host = "MemAvailable"
        case controlGroup = "memory.max"
    }
    public var needed: ByteCount
    public var available: ByteCount
    public var limit: Limit
}

/// Decides whether a TD fits before it is made.
public enum MemoryAdmission {
    /// - Throws: the tighter of the limits that the demand breaks.
    public static func admit(_ demand: MemoryDemand, from supply: MemorySupply) throws(InsufficientMemory) {
        let host = rest(supply.available, after: supply.promised)
        var tightest = (limit: InsufficientMemory.Limit.host, available: host)
        if let groupLimit = supply.groupLimit {
            let group = rest(rest(groupLimit, after: supply.groupCurrent), after: supply.promised)
            if group < host { tightest = (.controlGroup, group) }
        }
        guard demand.total <= tightest.available else {
            throw InsufficientMemory(
                needed: demand.total, available: tightest.available, limit: tightest.limit)
        }
    }

    private static func rest(_ whole: ByteCount, after part: ByteCount) -> ByteCount {
        whole > part ? whole - part : .zero
    }
}
