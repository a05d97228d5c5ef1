public import MemoryUnits
public import Varlink

// What comes with calls: its values are checked while they are decoded, by the types of the room Terms.

extension VarlinkCall {
    /// The parameters as a value that every rule of its terms holds for.
    ///
    /// - Throws: `InvalidField` of the interface for a value that breaks a rule;
    ///   `org.varlink.service.InvalidParameter` for one that is missing or of another type.
    public func request<Parameters: Decodable>(
        _ type: Parameters.Type, on kind: ControlInterfaceKind
    ) throws(VarlinkErrorReply) -> Parameters {
        try parameters(as: type) { ($0 as? Refusal).map { ControlError($0).reply(on: kind) } }
    }
}

extension ControlError {
    public init(_ refusal: Refusal) {
        self = .invalidField(field: refusal.field, value: refusal.value, limit: refusal.limit)
    }
}

extension ManagerInterface.Convert.Parameters {
    /// - Throws: `ControlError.invalidField` for a range that leaves the private half of a guest's address space.
    public func range() throws(ControlError) -> GuestPhysicalRange { try checkedRange(gpa, bytes) }
}

extension HolderInterface.Convert.Parameters {
    /// - Throws: `ControlError.invalidField` for a range that leaves the private half of a guest's address space.
    public func range() throws(ControlError) -> GuestPhysicalRange { try checkedRange(gpa, bytes) }
}

private func checkedRange(_ gpa: PageAddress, _ bytes: PageSpan) throws(ControlError) -> GuestPhysicalRange {
    do throws(Refusal) { return try gpa.range(bytes) } catch { throw ControlError(error) }
}

extension ManagerInterface.Attach {
    /// Connections that one call may bring.
    public static let connections = 1...8
}

extension HolderInterface.MapChanges {
    /// Changes in one answer.
    public static let mostChanges = 4096
}
