/// What clients may say of how memory is given back. Bytes and milliseconds.
public enum ReleaseLimits {
    /// Bytes a second.
    public static let pace: ClosedRange<UInt64> = 1 << 20...1 << 40
    /// Bytes in one punch, which cannot be interrupted; a multiple of `chunkUnit`.
    public static let chunk: ClosedRange<UInt64> = 2 << 20...64 << 20
    public static let chunkUnit: UInt64 = 2 << 20
    /// Until the answer comes at the latest: 1 s to 7 days.
    public static let deadlineMilliseconds: ClosedRange<UInt64> = 1_000...7 * 86_400_000

    /// - Throws: `ControlError.invalidField`.
    public static func checkedPace(_ bytesPerSecond: some BinaryInteger) throws(ControlError) -> UInt64 {
        try checked(
            "bytes_per_second", bytesPerSecond, pace, limit: "\(pace.lowerBound) to \(pace.upperBound) bytes a second")
    }

    /// - Throws: `ControlError.invalidField`.
    public static func checkedChunk(_ bytes: some BinaryInteger) throws(ControlError) -> UInt64 {
        let limit = "a multiple of \(chunkUnit) from \(chunk.lowerBound) to \(chunk.upperBound)"
        let checked = try checked("chunk_bytes", bytes, chunk, limit: limit)
        guard checked % chunkUnit == 0 else {
            throw .invalidField(field: "chunk_bytes", value: String(bytes), limit: limit)
        }
        return checked
    }

    /// - Throws: `ControlError.invalidField`.
    public static func checkedDeadline(milliseconds: some BinaryInteger) throws(ControlError) -> UInt64 {
        let range = deadlineMilliseconds
        return try checked("deadline_ms", milliseconds, range, limit: "\(range.lowerBound) to \(range.upperBound) ms")
    }
}

/// What clients may say of how a TD comes to be.
public enum CreationLimits {
    /// How long it may wait for what the host lacks: 1 ms to 7 days.
    public static let waitMilliseconds: ClosedRange<UInt64> = 1...7 * 86_400_000

    /// - Throws: `ControlError.invalidField`.
    public static func checkedWait(milliseconds: some BinaryInteger) throws(ControlError) -> UInt64 {
        let range = waitMilliseconds
        return try checked("wait_ms", milliseconds, range, limit: "\(range.lowerBound) to \(range.upperBound) ms")
    }
}

/// - Throws: `ControlError.invalidField`.
private func checked(
    _ field: String, _ value: some BinaryInteger, _ range: ClosedRange<UInt64>, limit: String
) throws(ControlError) -> UInt64 {
    guard let checked = UInt64(exactly: value), range.contains(checked) else {
        throw .invalidField(field: field, value: String(value), limit: limit)
    }
    return checked
}
