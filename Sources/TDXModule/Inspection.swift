/// What kind of object a 4 KiB page is to the module (reference §5.1).
@frozen
public enum PageType: UInt8, Hashable, Sendable {
    /// Not directly assigned: free for the host.
    case free = 0
    case reserved = 1
    /// A trust domain's memory.
    case regular = 3
    case tdr = 4
    case tdcx = 5
    case tdvpr = 6
    /// A Secure-EPT table.
    case ept = 8
    /// [late] A 2 MiB range whose 4 KiB metadata lives in a pair of PAMT pages.
    case pamt = 15
}

/// The state of a key id (reference §4.1).
@frozen
public enum KeyState: UInt8, Hashable, Sendable {
    case free = 0
    case assigned = 1
    case flushed = 2
    case reserved = 3
}
