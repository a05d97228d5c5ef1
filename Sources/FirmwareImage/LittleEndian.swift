// Reading and writing little-endian fields. Reads are bounded: nil where the bytes end.

extension RandomAccessCollection<UInt8> where Index == Int {
    /// The integer at `offset` from the first element; nil where it would reach past the end.
    func littleEndian<T: FixedWidthInteger & UnsignedInteger>(_: T.Type, at offset: Int) -> T? {
        let width = T.bitWidth / 8
        guard offset >= 0, count >= width, offset <= count - width else { return nil }
        var value: T = 0
        for position in (0..<width).reversed() {
            value = value << 8 | T(self[startIndex + offset + position])
        }
        return value
    }
}

extension [UInt8] {
    mutating func append<T: FixedWidthInteger>(littleEndian value: T) {
        Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
    }
}

/// A GUID as UEFI stores it: the first three fields little-endian, the rest as written.
struct GUID: Hashable, Sendable {
    static let size = 16

    let bytes: [UInt8]
    let text: String

    /// - Precondition: `text` is a GUID in the usual notation, such as `96b582de-1fb2-45f7-baea-a366c55a082d`.
    init(_ text: String) {
        let digits = Array(text.utf8).filter { $0 != UInt8(ascii: "-") }
        precondition(digits.count == 2 * Self.size, "not a GUID: \(text)")
        let written = stride(from: 0, to: digits.count, by: 2).map { index in
            UInt8(String(decoding: digits[index..<index + 2], as: UTF8.self), radix: 16)!
        }
        bytes =
            Array(written[0..<4].reversed()) + written[4..<6].reversed() + written[6..<8].reversed() + written[8...]
        self.text = text
    }

    func matches(_ candidate: some Collection<UInt8>) -> Bool { candidate.elementsEqual(bytes) }
}
