/// SHA-384 (FIPS 180-4) of bytes that arrive in pieces, by libgcrypt. A copy goes on from where the original stood.
public struct SHA384: Sendable {
    /// Bytes of a digest.
    public static let byteCount = 48

    private var context = HashContext(.sha384)

    /// The hash of no bytes yet.
    public init() {}

    /// Adds bytes; the pieces' sizes do not change the digest.
    public mutating func update(bufferPointer: UnsafeRawBufferPointer) {
        if !isKnownUniquelyReferenced(&context) { context = HashContext(copying: context) }
        context.write(bufferPointer)
    }

    /// Digest of all bytes so far, 48 bytes; more can be added afterwards.
    public func finalize() -> [UInt8] { HashContext(copying: context).read(count: Self.byteCount) }

    /// Digest of some bytes, 48 bytes.
    public static func hash(_ bytes: [UInt8]) -> [UInt8] {
        let context = HashContext(.sha384)
        bytes.withUnsafeBytes { context.write($0) }
        return context.read(count: byteCount)
    }
}

/// HMAC (RFC 2104) with SHA-256, by libgcrypt.
public enum HMACSHA256 {
    /// Bytes of a code.
    public static let byteCount = 32

    /// Authentication code of some bytes, 32 bytes. The key may have any length.
    public static func code(of bytes: [UInt8], key: [UInt8]) -> [UInt8] {
        let context = HashContext(.hmacSHA256(key: key))
        bytes.withUnsafeBytes { context.write($0) }
        return context.read(count: byteCount)
    }
}
