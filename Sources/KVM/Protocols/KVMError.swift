public import SystemPackage
public import TDXStatusCodes

/// A refusal by the kernel: which call, which errno and, where the TDX module was involved, its raw status.
public struct KVMError: Error, Hashable, Sendable {
    /// The call as the kernel's documentation names it, such as `KVM_CREATE_GUEST_MEMFD` or `fallocate(PUNCH_HOLE)`.
    public var operation: String
    public var errno: Errno
    /// `kvm_tdx_cmd.hw_error`, nil when the kernel reported none.
    public var status: TDXStatus?
    /// What was asked, for people: addresses, sizes, flags.
    public var detail: String

    public init(_ operation: String, _ errno: Errno, status: TDXStatus? = nil, detail: String = "") {
        self.operation = operation
        self.errno = errno
        self.status = status
        self.detail = detail
    }
}
