internal import MemoryUnits
internal import TDXStatusCodes

extension TDXModule {
    /// PHYMEM.PAGE.WBINVD (reference §1.6): writes a free page's lines back under the key id in the address.
    func phymemPageWbinvd(_ r: inout Registers) -> TDXStatus {
        let operand = r.rcx
        if operand >> 52 != 0 { return .operandInvalid.with(.rcx) }
        let shift = 52 - UInt64(platform.keyIDBits)
        let address = operand & (1 << shift - 1)
        var page: LockedPage?
        let status = lockPrivate(address, .free, exclusive: false, .rcx, into: &page)
        guard let page else { return status }
        memory.writeBack(HostPhysicalAddress(address), key: KeyID(UInt16(operand >> shift)))
        unlock(page)
        return .success
    }
}
