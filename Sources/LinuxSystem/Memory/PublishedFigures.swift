internal import CLinux
internal import MemoryUnits
internal import SystemPackage

/// Four figures that one process keeps up to date in memory which others see, so that who wants to know them need not
/// ask: also when the process is stopped, hangs or has died.
///
/// Readers see figures that belong together, or none: a sequence lock, whose writers never wait.
public final class PublishedFigures: Sendable {
    /// One page.
    static let size = ByteCount(pageSize)

    private let file: MemoryFile
    private let mapping: FileMapping

    /// Nothing is published yet.
    /// - Parameter name: shows in /proc.
    public init(name: String) throws(LinuxError) {
        file = try MemoryFile(name: name, size: Self.size)
        mapping = try file.map(length: Self.size)
    }

    /// One writer at a time.
    public func publish(_ figures: SIMD4<UInt64>) {
        tdxd_figures_write(mapping.baseAddress, figures[0], figures[1], figures[2], figures[3])
    }

    /// For a reader.
    public func duplicateDescriptor() throws(LinuxError) -> OwnedDescriptor { try file.duplicateDescriptor() }
}

/// The reading side of `PublishedFigures`, in another process.
public final class FigureReader: Sendable {
    private let mapping: FileMapping

    /// - Parameter descriptor: of a `PublishedFigures`; it is closed, the mapping keeps the file.
    /// - Throws: `EINVAL` for a file that could be cut off under the mapping, or is too short.
    public init(_ descriptor: consuming OwnedDescriptor) throws(LinuxError) {
        let seals = try LinuxError.check(tdxd_get_seals(descriptor.rawValue), "fcntl(F_GET_SEALS)")
        let size = try descriptor.status().size
        // F_SEAL_SHRINK 2.
        guard seals & 2 != 0, size >= PublishedFigures.size else {
            throw LinuxError("mmap", .invalidArgument, detail: "published figures of \(size), seals \(seals)")
        }
        mapping = try FileMapping(descriptor: descriptor.rawValue, size: PublishedFigures.size, writable: false)
    }

    /// The figures as they were at one moment; nil before the first are published, and where a writer was stopped while
    /// it wrote.
    public func read() -> SIMD4<UInt64>? {
        var figures = SIMD4<UInt64>.zero
        let isWhole = withUnsafeMutableBytes(of: &figures) { bytes in
            tdxd_figures_read(mapping.baseAddress, bytes.baseAddress!.assumingMemoryBound(to: UInt64.self))
        }
        return isWhole == 1 ? figures : nil
    }
}
