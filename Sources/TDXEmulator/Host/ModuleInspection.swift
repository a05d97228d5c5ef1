internal import MemoryUnits
internal import TDXModule

extension HostContext {
    /// The module's key table, in its own words.
    func keyStateName(of keyID: KeyID) -> String? {
        nil
    }
}

extension TDXModule {
    func measurement(of tdr: HostPhysicalAddress) -> [UInt8]? { nil }
}
