internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// MEM.PAGE.ADD (reference §1.4): a measured page with contents, before the trust domain is finalised.
    func memPageAdd(_ r: inout Registers) -> TDXStatus {
        let (target, root, address, source) = (r.rcx, r.rdx, r.r8, r.r9)
        r.rcx = 0
        r.rdx = 0
        var access: TDAccess?
        var status = open(root, .rdx, for: .memPageAdd, .exclusive, into: &access)
        guard let access else { return status }
        defer { access.release() }
        guard isLevelAndAddress(target, from: 0, to: 0), isPrivate(target, access) else {
            return .operandInvalid.with(.rcx)
        }
        let found = walk(access.td, target, to: 0, root: access.state.rootLevel)
        if found.level != 0 {
            report(found, &r)
            return .eptWalkFailed.with(.rcx)
        }
        guard permissions.allows(.memPageAdd, on: decode(found.raw)) else {
            return wrongState(found, &r)
        }
        guard let buffer = sharedOperand(source, alignment: 4096) else { return .operandInvalid.with(.r9) }
        var page: LockedPage?
        status = lockPrivate(address, .free, exclusive: true, .r8, into: &page)
        guard let page else { return status }
        memory.copyPage(
            from: HostPhysicalAddress(buffer.address), sourceKey: buffer.key, to: HostPhysicalAddress(address),
            key: access.key)
        found.entry.set(EntryState.mapped.entry(address))
        access.td.details.measurement.append(.pageAdd(target))
        access.td.pointee.children.plus(1)
        unlock(page, as: .regular, owner: access.address, second: 0)
        return .success
    }
}
