internal import MemoryUnits
internal import TDXModule

extension HostContext {
    /// What the module's key table says of a key id, in the reference's words; nil for one that is not private.
    func keyStateName(of keyID: KeyID) -> String? {
        switch module.keyState(keyID) {
        case .free: "FREE"
        case .assigned: "ASSIGNED"
        case .flushed: "FLUSHED"
        case .reserved: "RESERVED"
        case nil: nil
        }
    }
}
