internal import KVM
internal import LinuxSystem
internal import MemoryUnits
internal import Synchronization
internal import SystemPackage

/// A sealed memfd that behaves as a guest_memfd does: fallocate in the two modes that a guest_memfd knows, with its
/// checks and errnos. Source: reference/kvm.md §1.4 and §2.2.
final class MemfdGuestMemory: KVMGuestMemory {
    let size: ByteCount
    let inode: UInt64
    private let file: MemoryFile

    init(size: ByteCount) throws(KVMError) {
        // The kernel reads the size as a signed number.
        guard size != .zero, size.rawValue <= UInt64(Int64.max), size.isPageAligned else {
            throw KVMError("KVM_CREATE_GUEST_MEMFD", .invalidArgument, detail: "size \(size)")
        }
        do throws(LinuxError) {
            file = try MemoryFile(name: "tdxd-guest", size: size)
        } catch {
            throw KVMError("KVM_CREATE_GUEST_MEMFD", error.errno, detail: error.description)
        }
        self.size = size
        inode = file.identity.inode
    }

    func allocate(_ range: FileRange) throws(KVMError) {
        try check(range, "fallocate(KEEP_SIZE)")
        guard range.offset <= size, range.length <= size - range.offset else {
            throw KVMError("fallocate(KEEP_SIZE)", .invalidArgument, detail: "\(range) of \(size)")
        }
        try translating { () throws(LinuxError) in
            try file.allocate(offset: range.offset, length: range.length)
        }
    }

    func punchHole(_ range: FileRange) throws(KVMError) {
        try check(range, "fallocate(PUNCH_HOLE)")
        guard range.offset < size else { return }
        let length = min(range.length, size - range.offset)
        try translating { () throws(LinuxError) in try file.punchHole(offset: range.offset, length: length) }
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
        try translating { () throws(LinuxError) in try file.duplicateDescriptor() }
    }

    func close() { file.close() }

    private func check(_ range: FileRange, _ operation: String) throws(KVMError) {
        guard range.offset.isPageAligned, range.length.isPageAligned, range.length != .zero,
            range.offset.rawValue <= UInt64(Int64.max)
        else { throw KVMError(operation, .invalidArgument, detail: "\(range)") }
    }

    private func translating<Result: ~Copyable>(
        _ body: () throws(LinuxError) -> Result
    ) throws(KVMError) -> Result {
        do throws(LinuxError) { return try body() } catch {
            throw KVMError(error.operation, error.errno, detail: error.detail)
        }
    }
}
