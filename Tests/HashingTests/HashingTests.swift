import Hashing
import Testing

/// Expected values: FIPS 180-4's examples for SHA-384, RFC 4231 for HMAC-SHA-256.
@Suite struct `Hashes by libgcrypt` {
    @Test(
        arguments: [
            ("", "38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b"),
            ("abc", "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"),
            (
                "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
                    + "nopqrstu",
                "09330c33f71147e83d192fc782cd1b4753111b173b3b05d22fa08086e3b0f712fcc7c71a557e2db966c3e9fa91746039"
            ),
        ])
    func `SHA-384 gives the standard's examples`(text: String, digest: String) {
        #expect(hexadecimal(SHA384.hash(Array(text.utf8))) == digest)
    }

    @Test func `SHA-384 does not depend on how its bytes are cut`() {
        let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        let whole = SHA384.hash(bytes)
        for size in [1, 3, 64, 127, 128, 129, 999] {
            var hash = SHA384()
            for start in stride(from: 0, to: bytes.count, by: size) {
                bytes[start..<min(start + size, bytes.count)].withUnsafeBytes { hash.update(bufferPointer: $0) }
            }
            #expect(hash.finalize() == whole, "pieces of \(size) bytes")
        }
    }

    @Test func `a digest can be taken on the way, and a copy goes on by itself`() {
        var hash = SHA384()
        Array("ab".utf8).withUnsafeBytes { hash.update(bufferPointer: $0) }
        #expect(hash.finalize() == SHA384.hash(Array("ab".utf8)))
        var copy = hash
        Array("c".utf8).withUnsafeBytes { hash.update(bufferPointer: $0) }
        Array("d".utf8).withUnsafeBytes { copy.update(bufferPointer: $0) }
        #expect(hash.finalize() == SHA384.hash(Array("abc".utf8)))
        #expect(copy.finalize() == SHA384.hash(Array("abd".utf8)))
    }

    @Test func `no bytes at all may be added`() {
        var hash = SHA384()
        hash.update(bufferPointer: UnsafeRawBufferPointer(start: nil, count: 0))
        #expect(hash.finalize() == SHA384.hash([]))
    }

    @Test(
        arguments: [
            (
                [UInt8](repeating: 0x0b, count: 20), Array("Hi There".utf8),
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
            ),
            (
                Array("Jefe".utf8), Array("what do ya want for nothing?".utf8),
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
            ),
            (
                [UInt8](repeating: 0xaa, count: 131),
                Array("Test Using Larger Than Block-Size Key - Hash Key First".utf8),
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
            ),
        ])
    func `HMAC-SHA-256 gives RFC 4231's examples`(key: [UInt8], text: [UInt8], code: String) {
        #expect(hexadecimal(HMACSHA256.code(of: text, key: key)) == code)
    }

    @Test func `threads that begin hashes at the same time get the same digests`() async {
        let bytes = [UInt8](repeating: 0x5a, count: 4096)
        let expected = SHA384.hash(bytes)
        await withTaskGroup(of: [UInt8].self) { group in
            for _ in 0..<64 { group.addTask { SHA384.hash(bytes) } }
            for await digest in group { #expect(digest == expected) }
        }
    }
}

private func hexadecimal(_ bytes: [UInt8]) -> String {
    let digits = Array("0123456789abcdef".utf8)
    return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
}
