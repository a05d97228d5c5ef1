public import KVM
public import MemoryUnits
public import Terms

extension MemorySide {
    /// Where pages of this side have settled.
    var settled: PageState { self == .private ? .private : .shared }
    /// Where pages on their way to this side are.
    var converting: PageState { self == .private ? .convertingToPrivate : .convertingToShared }
}

/// What a conversion did.
public struct ConversionResult: Hashable, Sendable {
    /// Bytes that were on the other side before.
    public var changed: ByteCount = .zero
    /// Bytes of the old side that were resident and have been given back to the host; 0 where the kernel cannot count them
    /// (no cachestat(2)).
    public var discarded: ByteCount = .zero
    /// Transactions that the range was cut into and that had something to do.
    public var chunks = 0

    public init() {}
}

/// How far a conversion is.
public struct ConversionProgress: Hashable, Sendable {
    /// What it came to so far.
    public var result: ConversionResult
    /// Bytes from the range's start on that are settled.
    public var settled: ByteCount
    /// Bytes of the range.
    public var total: ByteCount
}

/// A conversion that did not reach its end. The map, the kernel and the backing files agree with what is stated here.
public struct IncompleteConversion: Error, Hashable, Sendable {
    public enum Reason: Hashable, Sendable {
        /// Whoever asked no longer wants it.
        case cancelled
        case refused(KVMError)
    }

    /// What was asked for.
    public var range: GuestPhysicalRange
    public var side: MemorySide
    /// The first address that is as it was before; everything in front of it is converted. Equal to the range's start
    /// when nothing was changed.
    public var end: GuestPhysicalAddress
    /// What the part in front of `end` came to.
    public var result: ConversionResult
    public var reason: Reason
    /// Converted memory in front of `end` whose old side could be neither discarded nor taken back into use: it stays
    /// resident, unreachable for guest and host, until `reclaim` frees it. Nil normally.
    public var leftover: GuestPhysicalRange?
}

extension IncompleteConversion: CustomStringConvertible {
    public var description: String {
        let why =
            switch reason {
            case .cancelled: "cancelled"
            case .refused(let error): error.description
            }
        let done = end == range.start ? "nothing was changed" : "\(range.start)–\(end) is done"
        return "converting \(range) to \(side.rawValue): \(why); \(done)"
            + (leftover.map { "; the old side of \($0) is still resident" } ?? "")
    }
}

/// Why a conversion failed.
public enum ConversionError: Error, Hashable, Sendable {
    /// Bad input; nothing was changed.
    case invalid(GuestMemoryError)
    /// It stopped somewhere; see there what is done.
    case incomplete(IncompleteConversion)
}

extension ConversionError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .invalid(let error): error.description
        case .incomplete(let error): error.description
        }
    }
}
