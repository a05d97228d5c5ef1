public import KVM

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
        case .invalid(let field, let value, let limit): "\(field) is \(value); it must be \(limit)"
        case .refused(let error): error.description
        }
    }
}
