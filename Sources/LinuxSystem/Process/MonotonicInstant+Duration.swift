extension MonotonicInstant {
    /// Later by `duration`; beyond 64 bits it is the last instant there is, and a negative sum the first.
    public static func + (a: Self, b: Duration) -> Self {
        let offset = b.nanosecondsClamped
        let (sum, overflow) = a.nanoseconds.addingReportingOverflow(UInt64(bitPattern: offset))
        if offset >= 0 { return Self(nanoseconds: overflow ? .max : sum) }
        return Self(nanoseconds: offset.magnitude > a.nanoseconds ? 0 : a.nanoseconds - offset.magnitude)
    }

    /// From `b` to `a`; negative when `b` is later.
    public static func - (a: Self, b: Self) -> Duration {
        a >= b ? .nanoseconds(a.nanoseconds - b.nanoseconds) : .zero - .nanoseconds(b.nanoseconds - a.nanoseconds)
    }

    /// What poll(2) and epoll_wait(2) take to sleep until this instant: rounded up, 0 when it is past.
    public func pollTimeout(from now: MonotonicInstant) -> Int32 {
        guard self > now else { return 0 }
        let (milliseconds, rest) = (nanoseconds - now.nanoseconds).quotientAndRemainder(dividingBy: 1_000_000)
        return Int32(clamping: milliseconds + (rest == 0 ? 0 : 1))
    }
}

extension Duration {
    /// Whole nanoseconds, held within 64 bits.
    public var nanosecondsClamped: Int64 {
        let (seconds, attoseconds) = components
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        guard !overflow else { return seconds < 0 ? .min : .max }
        let (sum, overflow2) = product.addingReportingOverflow(attoseconds / 1_000_000_000)
        return overflow2 ? (seconds < 0 ? .min : .max) : sum
    }

    /// Milliseconds with their fraction.
    public var milliseconds: Double {
        Double(components.seconds) * 1e3 + Double(components.attoseconds) / 1e15
    }
}
