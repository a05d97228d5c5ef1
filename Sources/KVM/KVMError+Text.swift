public import LinuxSystem
internal import SystemPackage
internal import TDXStatusCodes

extension KVMError {
    /// A refusal of an ordinary system call on a KVM object.
    public init(_ error: LinuxError) {
        self.init(error.operation, error.errno, detail: error.detail)
    }
}

extension KVMError: CustomStringConvertible {
    /// The one place where a refusal becomes text:
    /// "KVM_TDX_INIT_VM: EINVAL (Invalid argument), TDX status 0xc000010000000001: attributes 0x10".
    public var description: String {
        var text = "\(operation): \(errno.name) (\(errno.description))"
        if let status { text += ", TDX status \(status)" }
        if !detail.isEmpty { text += ": \(detail)" }
        return text
    }
}
