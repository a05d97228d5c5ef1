internal import Crypto

/// The 128-byte records that MRTD is extended with (reference §8.1).
struct MeasurementRecord {
    /// Eight-byte words: a name of at most 16 characters, the GPA, zeros.
    private let words: (UInt64, UInt64, UInt64)

    /// `MEM.PAGE.ADD` and the page's GPA.
    static func pageAdd(_ gpa: UInt64) -> Self { Self(name: "MEM.PAGE.ADD", gpa) }
    /// `MR.EXTEND` and the GPA of the 256-byte chunk.
    static func extend(_ gpa: UInt64) -> Self { Self(name: "MR.EXTEND", gpa) }

    private init(name: StaticString, _ gpa: UInt64) {
        var first: UInt64 = 0
        var second: UInt64 = 0
        for index in 0..<name.utf8CodeUnitCount {
            let byte = UInt64(name.utf8Start[index])
            if index < 8 { first |= byte << (8 * UInt64(index)) } else { second |= byte << (8 * UInt64(index - 8)) }
        }
        words = (first.littleEndian, second.littleEndian, gpa.littleEndian)
    }

    /// Calls `body` with the 128 bytes.
    func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        withUnsafeTemporaryAllocation(byteCount: 128, alignment: 8) { buffer in
            buffer.initializeMemory(as: UInt8.self, repeating: 0)
            buffer.storeBytes(of: words.0, toByteOffset: 0, as: UInt64.self)
            buffer.storeBytes(of: words.1, toByteOffset: 8, as: UInt64.self)
            buffer.storeBytes(of: words.2, toByteOffset: 16, as: UInt64.self)
            return body(UnsafeRawBufferPointer(buffer))
        }
    }
}

extension SHA384 {
    mutating func extend(_ record: MeasurementRecord) {
        record.withBytes { update(bufferPointer: $0) }
    }

    /// Digest of some bytes.
    static func bytes(_ data: [UInt8]) -> [UInt8] { Array(SHA384.hash(data: data)) }
}
