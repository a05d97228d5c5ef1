public import LinuxSystem
public import MemoryUnits

/// Who asked for a conversion.
public enum ConversionOrigin: String, Hashable, Sendable, CaseIterable {
    case host
    case guest
}

/// One conversion as it went.
public struct ConversionRecord: Hashable, Sendable {
    /// Counted from 1 since the guest's memory was made; 0 until it is remembered.
    public var number: UInt64 = 0
    public var range: GuestPhysicalRange
    public var side: MemorySide
    public var origin: ConversionOrigin
    /// Requests that were merged into it.
    public var requests: Int
    public var result: ConversionResult
    /// Nil for one that reached its end.
    public var failure: IncompleteConversion?
    public var start: MonotonicInstant
    public var end: MonotonicInstant

    public init(
        range: GuestPhysicalRange, side: MemorySide, origin: ConversionOrigin, requests: Int, result: ConversionResult,
        failure: IncompleteConversion? = nil, start: MonotonicInstant, end: MonotonicInstant
    ) {
        self.range = range
        self.side = side
        self.origin = origin
        self.requests = requests
        self.result = result
        self.failure = failure
        self.start = start
        self.end = end
    }

    /// Microseconds that it took.
    public var microseconds: UInt64 { (end.nanoseconds - min(start.nanoseconds, end.nanoseconds)) / 1000 }

    /// Whether its caller cancelled it, which does not count as a failure.
    public var isCancelled: Bool { failure?.reason == .cancelled }
}
