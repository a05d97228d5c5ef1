internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// MNG.CREATE (reference §1.2): a trust domain's root page, and its key id.
    func mngCreate(_ r: inout Registers) -> TDXStatus {
        let address = r.rcx
        guard let key = UInt16(exactly: r.rdx), platform.privateKeyIDs.contains(key) else {
            return .operandInvalid.with(.rdx)
        }
        var page: LockedPage?
        let status = lockPrivate(address, .free, exclusive: true, .rcx, into: &page)
        guard let page else { return status }
        guard keyTableLock.tryLock(exclusive: true) else {
            unlock(page)
            return .operandBusy.with(.kot)
        }
        defer { keyTableLock.unlock(exclusive: true) }
        guard keys.withLock({ $0[Int(key)].state == .free }) else {
            unlock(page)
            return .hkidNotFree
        }
        guard !faults.takes(.entropy), let uuid = entropy.bytes(32) else {
            unlock(page)
            return .rndNoEntropy
        }
        memory.zeroPage(HostPhysicalAddress(address), key: globalKey)
        let slot = UInt64(tdSlab.allocate())
        let td = tdBlock(slot)
        // `locks` stays: a thread that looked up the slot's former owner may still be on its way out.
        td.pointee.state.set(UInt64(key) << 32 | UInt64(Lifecycle.keyAssigned.rawValue))
        td.pointee.children.set(0)
        td.pointee.epoch.set(0)
        td.pointee.inside.set(0)
        td.pointee.rootTable.set(0)
        td.pointee.forbiddenGPABits.set(0)
        td.pointee.address.set(address)
        td.pointee.vcpus.set(0)
        td.pointee.rtmrLock.set(0)
        let context = Unmanaged.passRetained(TDContext(uuid: uuid))
        td.pointee.context.set(UInt64(UInt(bitPattern: context.toOpaque())))
        keys.withLock { $0[Int(key)] = KeyEntry(state: .assigned, writeBackBitmap: 0) }
        unlock(page, as: .tdr, owner: 0, second: slot)
        return .success
    }

    var globalKey: KeyID { KeyID(system.withLock { $0.globalKey }) }
}
