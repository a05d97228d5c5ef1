public import MemoryUnits
internal import Synchronization

/// Sparse physical memory in this process: a page exists from its first write on. Each page remembers the key it was
/// last written with; reading with another key gives zeros (reference §10), writing with another key starts from zeros.
public final class SimulatedMemory: PhysicalMemory {
    private struct Page: Sendable {
        var key: KeyID
        var bytes: [UInt8]
    }

    private let pages = Mutex<[UInt64: Page]>([:])

    public init() {}

    /// Pages that were ever written.
    public var pageCount: Int { pages.withLock { $0.count } }

    public func read(_ address: HostPhysicalAddress, key: KeyID, into buffer: UnsafeMutableRawBufferPointer) {
        let offset = check(address, buffer.count)
        pages.withLock { pages in
            if let page = pages[address.rawValue / pageSize], page.key == key {
                page.bytes.withUnsafeBytes {
                    buffer.copyMemory(from: .init(rebasing: $0[offset..<offset + buffer.count]))
                }
            } else {
                buffer.initializeMemory(as: UInt8.self, repeating: 0)
            }
        }
    }

    public func write(_ address: HostPhysicalAddress, key: KeyID, from buffer: UnsafeRawBufferPointer) {
        let offset = check(address, buffer.count)
        pages.withLock { pages in
            let number = address.rawValue / pageSize
            var page = pages.removeValue(forKey: number) ?? Page(key: key, bytes: [])
            if page.key != key || page.bytes.isEmpty {
                page = Page(key: key, bytes: [UInt8](repeating: 0, count: Int(pageSize)))
            }
            page.bytes.withUnsafeMutableBytes {
                UnsafeMutableRawBufferPointer(rebasing: $0[offset..<offset + buffer.count]).copyMemory(from: buffer)
            }
            pages[number] = page
        }
    }

    /// Drops a page, as a host that frees it would.
    public func discard(_ page: HostPhysicalAddress) {
        pages.withLock { _ = $0.removeValue(forKey: page.rawValue / pageSize) }
    }

    private func check(_ address: HostPhysicalAddress, _ count: Int) -> Int {
        let offset = Int(address.rawValue % pageSize)
        precondition(count <= Int(pageSize) - offset, "a memory access crosses a page")
        return offset
    }
}

/// Memory without contents, for programs that look at metadata alone: reads give zeros, writes vanish.
public struct ContentlessMemory: PhysicalMemory {
    public init() {}
    public func read(_ address: HostPhysicalAddress, key: KeyID, into buffer: UnsafeMutableRawBufferPointer) {
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
    }
    public func write(_ address: HostPhysicalAddress, key: KeyID, from buffer: UnsafeRawBufferPointer) {}
    public func zeroPage(_ page: HostPhysicalAddress, key: KeyID) {}
    public func copyPage(
        from source: HostPhysicalAddress, sourceKey: KeyID, to destination: HostPhysicalAddress, key: KeyID
    ) {}
}
