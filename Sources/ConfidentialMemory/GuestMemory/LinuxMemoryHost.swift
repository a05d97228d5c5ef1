public import KVM
internal import LinuxSystem
public import MemoryUnits
internal import SystemPackage

/// The shared side in memfds of this host, sealed against resizing.
public final class LinuxMemoryHost: MemoryHost {
    public init() {}

    public func createSharedFile(name: String, size: ByteCount) throws(KVMError) -> any BackingFile {
        do {
            return SharedFile(try MemoryFile(name: name, size: size))
        } catch {
            throw KVMError(error)
        }
    }
}

/// A memfd with the manners of a guest_memfd.
private final class SharedFile: BackingFile {
    private let file: MemoryFile

    init(_ file: MemoryFile) { self.file = file }

    var size: ByteCount { file.size }
    var inode: UInt64 { file.identity.inode }

    func allocate(_ range: FileRange) throws(KVMError) {
        try translating { () throws(LinuxError) in try file.allocate(offset: range.offset, length: range.length) }
    }

    func punchHole(_ range: FileRange) throws(KVMError) {
        try translating { () throws(LinuxError) in try file.punchHole(offset: range.offset, length: range.length) }
    }

    func residentBytes(_ range: FileRange) throws(KVMError) -> ByteCount {
        try translating { () throws(LinuxError) in
            try file.residentBytes(offset: range.offset, length: range.length)
        }
    }

    func map(_ range: FileRange) throws(KVMError) -> any MappedMemory {
        try translating { () throws(LinuxError) in try file.map(offset: range.offset, length: range.length) }
    }

    func duplicateDescriptor() throws(KVMError) -> OwnedDescriptor {
        do {
            return try file.duplicateDescriptor()
        } catch {
            throw KVMError(error)
        }
    }

    func close() { file.close() }

    private func translating<Result>(_ call: () throws(LinuxError) -> Result) throws(KVMError) -> Result {
        do {
            return try call()
        } catch {
            throw KVMError(error)
        }
    }
}
