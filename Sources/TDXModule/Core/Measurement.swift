internal import Hashing

/// The 128-byte records that MRTD is extended with (reference §8.1): a name of at most 16 characters, the GPA, zeros.
struct MeasurementRecord {
    /// The name, little-endian.
    let first: UInt64
    let second: UInt64
    let gpa: UInt64

    /// `MEM.PAGE.ADD` and the page's GPA.
    static func pageAdd(_ gpa: UInt64) -> Self { Self(first: 0x4547_4150_2E4D_454D, second: 0x4444_412E, gpa: gpa) }
    /// `MR.EXTEND` and the GPA of the 256-byte chunk.
    static func extend(_ gpa: UInt64) -> Self { Self(first: 0x4E45_5458_452E_524D, second: 0x44, gpa: gpa) }
}

/// The SHA-384 that becomes MRTD, with its input gathered so that the hash takes it in large pieces.
///
/// Sound without a lock of its own: every leaf that touches it holds TDR exclusively.
final class RunningMeasurement: @unchecked Sendable {
    private static let capacity = 16 << 10
    private var hash = SHA384()
    private var buffer: UnsafeMutableRawPointer?
    private var count = 0

    deinit { buffer?.deallocate() }

    /// MNG.INIT: begins anew.
    func begin() {
        hash = SHA384()
        count = 0
        if buffer == nil { buffer = .allocate(byteCount: Self.capacity, alignment: 64) }
    }

    /// Adds a record, and room for `extra` bytes after it that `fill` writes (at most 256).
    @inline(__always)
    func append(_ record: MeasurementRecord, extra: Int = 0, fill: (UnsafeMutableRawBufferPointer) -> Void = { _ in }) {
        guard let buffer else { return }
        if count + 128 + extra > Self.capacity { flush(buffer) }
        let at = buffer + count
        at.initializeMemory(as: UInt64.self, repeating: 0, count: 16)
        at.storeBytes(of: record.first.littleEndian, as: UInt64.self)
        at.storeBytes(of: record.second.littleEndian, toByteOffset: 8, as: UInt64.self)
        at.storeBytes(of: record.gpa.littleEndian, toByteOffset: 16, as: UInt64.self)
        if extra > 0 { fill(UnsafeMutableRawBufferPointer(start: at + 128, count: extra)) }
        count += 128 + extra
    }

    private func flush(_ buffer: UnsafeMutableRawPointer) {
        hash.update(bufferPointer: UnsafeRawBufferPointer(start: buffer, count: count))
        count = 0
    }

    /// MR.FINALIZE: 48 bytes.
    func finish() -> [UInt8] {
        if let buffer {
            flush(buffer)
            buffer.deallocate()
        }
        buffer = nil
        return hash.finalize()
    }
}
