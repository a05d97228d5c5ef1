internal import CGcrypt

/// A `gcry_md_hd_t` and its end.
///
/// Sound without a lock: ``SHA384`` writes to a context only while it is the only reference, and reads from copies.
final class HashContext: @unchecked Sendable {
    enum Algorithm {
        case sha384
        case hmacSHA256(key: [UInt8])
    }

    private let handle: gcry_md_hd_t

    private static let isStarted = tdxd_gcrypt_start() == 1

    init(_ algorithm: Algorithm) {
        precondition(Self.isStarted, "libgcrypt is older than 1.10, which the package depends on")
        let (number, flags) =
            switch algorithm {
            case .sha384: (GCRY_MD_SHA384, UInt32(0))
            case .hmacSHA256: (GCRY_MD_SHA256, GCRY_MD_FLAG_HMAC.rawValue)
            }
        var opened: gcry_md_hd_t?
        // Every build of the library has SHA-2: what is left is a lack of memory, which ends a Swift program anyway.
        guard gcry_md_open(&opened, Int32(number.rawValue), flags) == 0, let opened else {
            preconditionFailure("libgcrypt cannot allocate a hash")
        }
        handle = opened
        if case .hmacSHA256(let key) = algorithm {
            precondition(gcry_md_setkey(handle, key, key.count) == 0, "libgcrypt cannot allocate a key")
        }
    }

    init(copying other: HashContext) {
        var copy: gcry_md_hd_t?
        guard gcry_md_copy(&copy, other.handle) == 0, let copy else {
            preconditionFailure("libgcrypt cannot allocate a hash")
        }
        handle = copy
    }

    deinit { gcry_md_close(handle) }

    func write(_ bytes: UnsafeRawBufferPointer) { gcry_md_write(handle, bytes.baseAddress, bytes.count) }

    /// Ends the hash and gives its digest.
    func read(count: Int) -> [UInt8] {
        guard let digest = gcry_md_read(handle, 0) else { preconditionFailure("libgcrypt lost a digest") }
        return Array(UnsafeBufferPointer(start: digest, count: count))
    }
}
