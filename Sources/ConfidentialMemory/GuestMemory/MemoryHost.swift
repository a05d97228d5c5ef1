public import KVM
public import MemoryUnits

/// A file that backs guest memory: a guest_memfd, or the memfd of the shared side, which answers to the same calls.
public typealias BackingFile = KVMGuestMemory

/// Where the shared side's files come from. A seam of its own, so that its failures can be tested as the kernel's are.
public protocol MemoryHost: AnyObject, Sendable {
    /// memfd_create(2): a file of fixed size that can be mapped, close-on-exec. Nothing is allocated yet.
    func createSharedFile(name: String, size: ByteCount) throws(KVMError) -> any BackingFile
}
