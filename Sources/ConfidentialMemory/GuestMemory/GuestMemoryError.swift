public import KVM
internal import SystemPackage
internal import TDXStatusCodes

/// Why something could not be done with a guest's memory. What a client can mend names the field, the value that was
/// found and the limit that it breaks.
public enum GuestMemoryError: Error, Hashable, Sendable {
    /// Bad input; nothing was changed.
    case invalid(field: String, value: String, limit: String)
    /// The kernel refused; what was begun has been undone.
    case refused(KVMError)
}

extension GuestMemoryError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .invalid(let field, let value, let limit): "\(field) is \(value); \(limit)"
        case .refused(let error): error.summary
        }
    }
}

extension KVMError {
    /// "KVM_TDX_INIT_VM: ENOSPC …" for messages of this room.
    var summary: String {
        var text = "\(operation): \(errno.description) (errno \(errno.rawValue))"
        if let status { text += ", TDX status 0x" + String(status.rawValue, radix: 16) }
        if !detail.isEmpty { text += ", \(detail)" }
        return text
    }
}
