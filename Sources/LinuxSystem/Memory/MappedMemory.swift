public import MemoryUnits

/// Memory mapped into this process. It is unmapped when the last reference goes, or by `unmap()`.
public protocol MappedMemory: AnyObject, Sendable {
    /// Start of the mapping. Valid until `unmap()`.
    var baseAddress: UnsafeMutableRawPointer { get }
    var size: ByteCount { get }
    /// madvise(MADV_DONTNEED) over a part: drops page-table entries, keeps the file's pages.
    func dropMappings(offset: ByteCount, length: ByteCount)
    /// munmap. A second call does nothing.
    func unmap()
}
