public import MemoryUnits

/// The contents of physical memory, as the module reads and writes them. Metadata (PAMT, Secure EPT, control
/// structures) never passes here: the module keeps it itself.
///
/// Addresses carry no key-id bits; the key id is given apart, and 0 … `mktmeKeys` are the host's. A call never crosses
/// a 4 KiB page. Several threads may call at once, for different pages.
public protocol PhysicalMemory: Sendable {
    /// Reads `buffer.count` bytes (1 … 4,096) from `address` with `key`.
    func read(_ address: HostPhysicalAddress, key: KeyID, into buffer: UnsafeMutableRawBufferPointer)

    /// Writes `buffer.count` bytes (1 … 4,096) to `address` with `key`.
    func write(_ address: HostPhysicalAddress, key: KeyID, from buffer: UnsafeRawBufferPointer)

    /// Fills the 4 KiB page at `page` with zeros by direct stores with `key`.
    func zeroPage(_ page: HostPhysicalAddress, key: KeyID)

    /// Copies the 4 KiB page at `source`, read with `sourceKey`, to `destination` by direct stores with `key`.
    func copyPage(
        from source: HostPhysicalAddress, sourceKey: KeyID, to destination: HostPhysicalAddress, key: KeyID)

    /// The 64 lines of the 4 KiB page at `page` are written back from the caches under the alias of `key`.
    func writeBack(_ page: HostPhysicalAddress, key: KeyID)
}

extension PhysicalMemory {
    /// Through a buffer; conformers with mapped pages do better.
    public func copyPage(
        from source: HostPhysicalAddress, sourceKey: KeyID, to destination: HostPhysicalAddress, key: KeyID
    ) {
        withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 16) { buffer in
            read(source, key: sourceKey, into: buffer)
            write(destination, key: key, from: UnsafeRawBufferPointer(buffer))
        }
    }

    /// Nothing: memory without caches.
    public func writeBack(_ page: HostPhysicalAddress, key: KeyID) {}

    public func zeroPage(_ page: HostPhysicalAddress, key: KeyID) {
        withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 16) { buffer in
            buffer.initializeMemory(as: UInt8.self, repeating: 0)
            write(page, key: key, from: UnsafeRawBufferPointer(buffer))
        }
    }

    /// The 64-bit little-endian word at `address`, which must be 8-aligned.
    func word(_ address: UInt64, key: KeyID) -> UInt64 {
        var value: UInt64 = 0
        withUnsafeMutableBytes(of: &value) { read(HostPhysicalAddress(address), key: key, into: $0) }
        return UInt64(littleEndian: value)
    }

    /// Reads any number of bytes, page by page.
    func bytes(_ address: UInt64, count: Int, key: KeyID) -> [UInt8] {
        var result = [UInt8](repeating: 0, count: count)
        result.withUnsafeMutableBytes { all in
            var done = 0
            while done < count {
                let at = address + UInt64(done)
                let length = min(count - done, Int(pageSize - at % pageSize))
                read(
                    HostPhysicalAddress(at), key: key,
                    into: UnsafeMutableRawBufferPointer(rebasing: all[done..<done + length]))
                done += length
            }
        }
        return result
    }

    /// Writes any number of bytes, page by page.
    func store(_ bytes: [UInt8], at address: UInt64, key: KeyID) {
        bytes.withUnsafeBytes { all in
            var done = 0
            while done < all.count {
                let at = address + UInt64(done)
                let length = min(all.count - done, Int(pageSize - at % pageSize))
                write(
                    HostPhysicalAddress(at), key: key,
                    from: UnsafeRawBufferPointer(rebasing: all[done..<done + length]))
                done += length
            }
        }
    }
}
