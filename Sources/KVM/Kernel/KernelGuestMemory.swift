public import LinuxSystem
public import MemoryUnits
internal import SystemPackage

/// A guest_memfd. It works from any process that holds it, also after the VM's creator died.
public final class KernelGuestMemory: KVMGuestMemory {
    public let size: ByteCount
    public let identity: FileIdentity
    public var inode: UInt64 { identity.inode }
    private let descriptor: SharedDescriptor

    /// Takes over a guest_memfd's descriptor, own or received.
    public init(taking file: consuming OwnedDescriptor) throws(KVMError) {
        do throws(LinuxError) {
            let status = try file.status()
            size = status.size
            identity = status.identity
        } catch {
            throw KVMError(error)
        }
        descriptor = SharedDescriptor(file)
    }

    public func allocate(_ range: FileRange) throws(KVMError) {
        try use("fallocate(KEEP_SIZE)") { number throws(KVMError) in
            try translated { () throws(LinuxError) in
                try FileMemory.allocate(descriptor: number, offset: range.offset, length: range.length)
            }
        }
    }

    public func punchHole(_ range: FileRange) throws(KVMError) {
        try use("fallocate(PUNCH_HOLE)") { number throws(KVMError) in
            try translated { () throws(LinuxError) in
                try FileMemory.punchHole(descriptor: number, offset: range.offset, length: range.length)
            }
        }
    }

    public func residentBytes(_ range: FileRange) throws(KVMError) -> ByteCount {
        // Length 0 would mean "to the end" to cachestat(2), here it means nothing.
        guard range.length != .zero else { return .zero }
        return try use("cachestat") { number throws(KVMError) in
            try translated { () throws(LinuxError) in
                try FileMemory.residentBytes(descriptor: number, offset: range.offset, length: range.length)
            }
        }
    }

    public func map(_ range: FileRange) throws(KVMError) -> any MappedMemory {
        try use("mmap") { number throws(KVMError) in
            try translated { () throws(LinuxError) in
                try FileMapping(descriptor: number, offset: range.offset, size: range.length)
            }
        }
    }

    public func duplicateDescriptor() throws(KVMError) -> OwnedDescriptor {
        let copy = try use("fcntl(F_DUPFD_CLOEXEC)") { number throws(KVMError) in
            try translated { () throws(LinuxError) in try OwnedDescriptor.duplicateNumber(number) }
        }
        return OwnedDescriptor(taking: copy)
    }

    public func close() { descriptor.close() }

    /// Runs `body` with the number; EBADF once closed.
    package func use<Result>(
        _ operation: String, _ body: (Int32) throws(KVMError) -> Result
    ) throws(KVMError) -> Result {
        guard let result = try descriptor.withDescriptor(body) else {
            throw KVMError(operation, .badFileDescriptor, detail: "the guest memory is closed")
        }
        return result
    }
}

/// Runs a Linux call and lets its refusal appear as KVM's.
func translated<Result: ~Copyable>(_ body: () throws(LinuxError) -> Result) throws(KVMError) -> Result {
    do throws(LinuxError) {
        return try body()
    } catch {
        throw KVMError(error)
    }
}
