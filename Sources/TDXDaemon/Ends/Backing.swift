internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import SystemPackage

/// tdxd's duplicates of one TD's backing files. They keep the memory when the holder dies, so that it is given back in
/// steps and under watch, and they are what the return is proven with.
final class Backing: Sendable {
    struct File: Sendable {
        let side: MemorySide
        let size: ByteCount
        let identity: FileIdentity
        let descriptor: SharedDescriptor
    }

    let files: [File]

    init(files: [File]) { self.files = files }

    var identities: Set<FileIdentity> { Set(files.map(\.identity)) }

    /// Bytes present on each side, by cachestat(2).
    /// - Throws: EBADF once the duplicates are closed.
    func residentBytes() throws(LinuxError) -> (private: ByteCount, shared: ByteCount) {
        var result = (private: ByteCount.zero, shared: ByteCount.zero)
        for file in files {
            let bytes = try file.residentBytes()
            if file.side == .private { result.private += bytes } else { result.shared += bytes }
        }
        return result
    }

    /// Closes every duplicate. A second call does nothing.
    /// - Returns: Whether all are closed.
    @discardableResult
    func close() -> Bool { files.map { $0.descriptor.close() }.allSatisfy { $0 } }
}

extension Backing.File {
    func residentBytes(offset: ByteCount = .zero, length: ByteCount = .zero) throws(LinuxError) -> ByteCount {
        try use("cachestat") { number throws(LinuxError) in
            try FileMemory.residentBytes(descriptor: number, offset: offset, length: length)
        }
    }

    func punchHole(offset: ByteCount, length: ByteCount) throws(LinuxError) {
        try use("fallocate(PUNCH_HOLE)") { number throws(LinuxError) in
            try FileMemory.punchHole(descriptor: number, offset: offset, length: length)
        }
    }

    private func use<Result>(
        _ operation: String, _ body: (Int32) throws(LinuxError) -> Result
    ) throws(LinuxError) -> Result {
        guard let result = try descriptor.withDescriptor(body) else {
            throw LinuxError(operation, .badFileDescriptor, detail: "the duplicate is closed")
        }
        return result
    }
}
