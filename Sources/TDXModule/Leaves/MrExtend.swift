internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// MR.EXTEND (reference §1.4): 256 bytes of memory enter MRTD.
    func mrExtend(_ r: inout Registers) -> TDXStatus {
        let (gpa, root) = (r.rcx, r.rdx)
        r.rcx = 0
        r.rdx = 0
        var access: TDAccess?
        let status = open(root, .rdx, for: .mrExtend, .exclusive, into: &access)
        guard let access else { return status }
        defer { access.release() }
        guard gpa & 0xFF == 0, gpa >> 52 == 0, isPrivate(gpa, access) else { return .operandInvalid.with(.rcx) }
        let found = walk(access.td, gpa, to: 0, root: access.state.rootLevel)
        guard Entry.isLeaf(found.raw), found.raw & Entry.rights != 0 else {
            report(found, &r)
            return .eptEntryNotPresent.with(.rcx)
        }
        guard permissions.allows(.mrExtend, on: decode(found.raw)) else { return .eptEntryNotPresent }
        let mask = (UInt64(1) << (12 + 9 * found.level)) - 1
        let address = HostPhysicalAddress(Entry.address(found.raw) & ~mask | gpa & mask)
        access.td.details.measurement.append(.extend(gpa), extra: 256) {
            memory.read(address, key: access.key, into: $0)
        }
        return .success
    }

    /// MR.FINALIZE (reference §1.4): MRTD is complete, the trust domain can run.
    func mrFinalize(_ r: inout Registers) -> TDXStatus {
        var access: TDAccess?
        let status = open(r.rcx, .rcx, for: .mrFinalize, .exclusive, into: &access)
        guard let access else { return status }
        defer { access.release() }
        if access.td.pointee.vcpus.get() & 0xFFFF_FFFF == 0 { return .noVCPUs }
        let mrtd = access.td.details.measurement.finish()
        access.td.details.contents.withLock { contents in
            contents.mrtd = mrtd
        }
        access.td.pointee.state.update(
            TDState.opStateMask, to: UInt64(OperationState.runnable.rawValue) << 24)
        return .success
    }
}
