internal import KVM
internal import MemoryUnits
internal import Synchronization
internal import TDXModule

extension TDXMachine {
    /// What is known of the TD beside what the machine holds.
    struct Evidence {
        /// From INIT_VM on.
        var keyID: KeyID?
        /// From FINALIZE_VM on.
        var measurement: [UInt8]?
        /// Everything, as it was when the VM was destroyed.
        var final: EmulatedInspection?
    }

    /// What the emulated host knows of this TD, now and after it was destroyed.
    var inspection: EmulatedInspection { evidence.withLock(\.final) ?? inspect() }

    /// Keeps the evidence as it is now, the VM's end: later the key id may be another TD's.
    func keepInspection() {
        var last = inspect()
        last.isDestroyed = true
        evidence.withLock { $0.final = last }
    }

    private func inspect() -> EmulatedInspection {
        mmuLock.withReadLock {
            let privatePages = mapLock.withLock { mirror.mappedPageCount }
            // CHLDCNT, the module's own account of the TD's pages, does not count the TDR.
            let owned = domain.flatMap { host.module.trustDomain($0.tdr) }.map { $0.childCount + 1 } ?? 0
            let (keyID, measurement) = evidence.withLock { ($0.keyID, $0.measurement) }
            return EmulatedInspection(
                keyID: keyID, keyState: keyID.flatMap { host.keyStateName(of: $0) }, measurement: measurement,
                seamcalls: counts.byName, privatePages: privatePages,
                controlPages: PageCount(owned - min(owned, privatePages.rawValue)),
                leakedPages: PageCount(leakedPages), isDestroyed: false, bug: bug)
        }
    }
}
